//! korder on a real control plane: rules that users rely on, seen through the API alone.
//!
//! Trials share one control plane and one korder, started with a grace of three seconds. Each has a
//! namespace and nodes of its own, so that they run side by side; those that stop something come last
//! and run alone.

mod churn;
mod deploy;
mod disruption;
mod expect;
mod failover;
mod fleet;
mod guardians;
mod history;
mod input;
mod names;
mod nodes;
mod orders;
mod ranges;
mod rbac;
mod replicas;
mod rolling;
mod rollout;
mod rooms;
mod scale;
mod seen;
mod start;
mod windows;
pub(crate) mod world;

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::harness::Harness;

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    [
        start::trials(),
        ranges::trials(),
        history::trials(),
        rooms::trials(),
        deploy::trials(harness),
        input::trials(harness),
        guardians::trials(harness),
        nodes::trials(harness),
        orders::trials(harness),
        rollout::trials(harness),
        seen::trials(harness),
        windows::trials(harness),
        rbac::trials(harness),
        seen::disruptive(harness),
        input::disruptive(harness),
        start::disruptive(harness),
        orders::disruptive(harness),
        disruption::disruptive(harness),
        replicas::disruptive(harness),
        failover::disruptive(harness),
        rolling::disruptive(harness),
        history::disruptive(harness),
        rollout::disruptive(harness),
        windows::disruptive(harness),
        scale::disruptive(harness),
        rbac::disruptive(harness),
        vec![rbac::review(harness)],
    ]
    .into_iter()
    .flatten()
    .collect()
}
