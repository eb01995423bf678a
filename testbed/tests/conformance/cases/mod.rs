//! Cases by hand: each is a rule of the API server that korder, its actors or kubectl rely on.

mod create;
mod delete;
mod guardian;
mod others;
mod read;
mod schema;
mod update;
mod watch;

use crate::step::Case;

pub(crate) fn all() -> Vec<Case> {
    let modules = [
        ("create", create::cases()),
        ("schema", schema::cases()),
        ("read", read::cases()),
        ("update", update::cases()),
        ("delete", delete::cases()),
        ("guardian", guardian::cases()),
        ("watch", watch::cases()),
        ("others", others::cases()),
    ];
    let named = |(module, cases): (&str, Vec<Case>)| {
        let prefix = module.to_owned();
        cases.into_iter().map(move |case| Case {
            name: format!("{prefix}::{}", case.name),
            steps: case.steps,
        })
    };
    modules.into_iter().flat_map(named).collect()
}
