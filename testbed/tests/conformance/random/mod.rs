//! Random sequences: from one seed, many at a time, and the first that differs made as short as possible.

mod grammar;
mod render;

use std::{fmt::Write as _, sync::atomic::AtomicUsize, sync::atomic::Ordering};

use anyhow::Result;
use futures::{StreamExt, stream};
use libtest_mimic::Failed;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use testbed::stopwatch::timed;

use crate::{
    compare::{self, Compared},
    ground::{Ground, Shared},
    step::Case,
};

/// Sequences without `CONFORMANCE_SEQUENCES`.
const SEQUENCES: u64 = 300;
/// Sequences at a time: the real server answers others while it waits for its store.
const TOGETHER: usize = 8;
/// At most this many runs to make a failing sequence shorter.
const SHRINKS: usize = 200;

/// The seed of the first sequence: `CONFORMANCE_SEED` or 1; each later one adds 1.
pub(crate) fn seed() -> u64 {
    number("CONFORMANCE_SEED").unwrap_or(1)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs all sequences; stops at the first difference.
pub(crate) fn run(ground: &Ground) -> Result<(), Failed> {
    let shared = ground.shared()?;
    let _together = ground.together();
    let first = seed();
    let count = number("CONFORMANCE_SEQUENCES").unwrap_or(SEQUENCES);
    let all = async {
        let mut results = stream::iter(first..first + count)
            .map(|seed| one(&shared, seed))
            .buffer_unordered(TOGETHER);
        while let Some((seed, compared)) = results.next().await {
            match compared {
                Ok(compared) => {
                    if let Err(difference) = ground.sequence(compared) {
                        return Ok(Some((seed, difference)));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    };
    let failing = timed("random::sequences", || shared.runtime.block_on(all));
    let Some((seed, first)) = failing.map_err(|error| Failed::from(format!("{error:#}")))? else {
        return Ok(());
    };
    Err(Failed::from(
        shared.runtime.block_on(shrunk(&shared, seed, first)),
    ))
}

async fn one(shared: &Shared, seed: u64) -> (u64, Result<Result<Compared, String>>) {
    let case = render::case(&tree(seed).current());
    (seed, compare(shared, &case).await)
}

/// Compares in a namespace that no other run uses.
async fn compare(shared: &Shared, case: &Case) -> Result<Result<Compared, String>> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let id = format!("r{}", NEXT.fetch_add(1, Ordering::Relaxed));
    shared.compare(&id, case).await
}

fn tree(seed: u64) -> Box<dyn ValueTree<Value = Vec<grammar::Action>>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let tree = grammar::sequence().boxed().new_tree(&mut runner);
    tree.expect("nothing in the grammar rejects")
}

/// The failing sequence made shorter while it still differs, with the difference and how to repeat it.
async fn shrunk(shared: &Shared, seed: u64, first: String) -> String {
    let mut tree = tree(seed);
    let mut actions = tree.current();
    let mut found = None;
    for _ in 0..SHRINKS {
        let difference = difference(shared, &tree.current()).await;
        let more = match difference {
            Some(_) => {
                (actions, found) = (tree.current(), difference);
                tree.simplify()
            }
            None => tree.complicate(),
        };
        if !more {
            break;
        }
    }
    // The grammar has a least length; what is not needed goes all the same.
    for at in (0..actions.len()).rev() {
        let mut fewer = actions.clone();
        fewer.remove(at);
        if let Some(difference) = difference(shared, &fewer).await {
            (actions, found) = (fewer, Some(difference));
        }
    }
    let mut text = format!("the arms differ; repeat with CONFORMANCE_SEED={seed} CONFORMANCE_SEQUENCES=1\n");
    for (at, step) in render::case(&actions).steps.iter().enumerate() {
        writeln!(text, "  {}: {}", at + 1, compare::line(step)).expect("a String takes all");
    }
    text + &found.unwrap_or_else(|| format!("this did not show again: {first}"))
}

async fn difference(shared: &Shared, actions: &[grammar::Action]) -> Option<String> {
    let compared = compare(shared, &render::case(actions)).await;
    compared.ok().and_then(Result::err)
}
