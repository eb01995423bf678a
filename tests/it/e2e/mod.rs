//! korder on a real control plane: rules that users rely on, seen through the API alone.
//!
//! Trials that get along share one control plane and one korder, started with a grace of three seconds: each has a
//! namespace and nodes of its own, so that they run side by side; then come those that add replicas and lose them,
//! each for itself. Those that stop more than that have another plane. What waits longest comes first.

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
        history::trials(harness),
        rooms::trials(),
        start::trials(harness),
        ranges::trials(harness),
        rollout::trials(harness),
        windows::trials(harness),
        deploy::trials(harness),
        input::trials(harness),
        guardians::trials(harness),
        nodes::trials(harness),
        orders::trials(harness),
        seen::trials(harness),
        rbac::trials(harness),
        seen::quiet(harness),
        rollout::disruptive(harness),
        failover::disruptive(harness),
        input::disruptive(harness),
        start::disruptive(harness),
        orders::disruptive(harness),
        disruption::disruptive(harness),
        replicas::disruptive(harness),
        rolling::disruptive(harness),
        scale::disruptive(harness),
        rbac::disruptive(harness),
        vec![rbac::review(harness)],
    ]
    .into_iter()
    .flatten()
    .collect()
}
