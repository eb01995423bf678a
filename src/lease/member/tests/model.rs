//! Every schedule of a small world, up to a number of faults: the machine itself is what is stepped.
//!
//! Two states that go on alike are one (`World::fingerprint`), so that the search has an end. What must
//! hold in every state is that no shard has two deciders; what must hold wherever time alone leads, that
//! every shard has an owner, that the load is even, and that drains have ended.

use super::{super::*, graph::Graph, world::*};

/// What may go wrong yet. What befalls requests lasts a beat.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Faults {
    crashes: u8,
    starts: u8,
    pauses: u8,
    /// Else they last longer than a lease.
    pauses_end_any_time: bool,
    leaves: u8,
    blind: u8,
    cuts: u8,
    mutes: u8,
    late: u8,
    slow: u8,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Beat,
    Start(usize),
    Crash(usize),
    Pause(usize),
    Resume(usize),
    Leave(usize),
    Blind(usize),
    See(usize),
    Network(usize, Network),
    Arrive,
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) world: World,
    faults: Faults,
}

impl State {
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Beat];
        let faults = &self.faults;
        let mut may = |left: u8, step| steps.extend((left > 0).then_some(step));
        may(self.world.late.is_some().into(), Step::Arrive);
        for (at, replica) in self.world.replicas.iter().enumerate() {
            if !replica.up {
                may(faults.starts, Step::Start(at));
                continue;
            }
            may(faults.crashes, Step::Crash(at));
            if replica.paused {
                may(
                    u8::from(faults.pauses_end_any_time || replica.asleep == LONG),
                    Step::Resume(at),
                );
                continue;
            }
            may(faults.pauses, Step::Pause(at));
            if replica.blind {
                may(1, Step::See(at));
            } else {
                may(faults.blind, Step::Blind(at));
            }
            if !replica.leaving {
                may(faults.leaves, Step::Leave(at));
            }
            if replica.network == Network::Well {
                may(faults.cuts, Step::Network(at, Network::Cut));
                for network in [Network::Mute, Network::MuteMembership, Network::MuteShard] {
                    may(faults.mutes, Step::Network(at, network));
                }
                may(faults.late, Step::Network(at, Network::Late));
                may(faults.slow, Step::Network(at, Network::Slow));
            }
        }
        steps
    }

    pub(super) fn after(&self, step: Step) -> Self {
        let mut next = self.clone();
        let (world, faults) = (&mut next.world, &mut next.faults);
        match step {
            Step::Beat => world.beat(),
            Step::Start(at) => {
                faults.starts -= 1;
                world.start(at);
            }
            Step::Crash(at) => {
                faults.crashes -= 1;
                world.crash(at);
            }
            Step::Pause(at) => {
                faults.pauses -= 1;
                world.replica(at).paused = true;
            }
            Step::Resume(at) => world.replica(at).paused = false,
            Step::Leave(at) => {
                faults.leaves -= 1;
                world.leave(at);
            }
            Step::Blind(at) => {
                faults.blind -= 1;
                world.replica(at).blind = true;
            }
            Step::See(at) => world.replica(at).blind = false,
            Step::Network(at, network) => {
                let left = match network {
                    Network::Cut => &mut faults.cuts,
                    Network::Late => &mut faults.late,
                    Network::Slow => &mut faults.slow,
                    _ => &mut faults.mutes,
                };
                *left -= 1;
                world.replica(at).network = network;
            }
            Step::Arrive => world.arrive(),
        }
        next
    }

    pub(super) fn key(&self) -> u64 {
        self.world.fingerprint(self.faults)
    }
}

/// Three replicas and four shards, all well.
fn calm(times: LeaseTimes, clocks: [(u64, u64); 3]) -> World {
    let mut world = World::new(4, times, &clocks);
    for at in 0..3 {
        world.start(at);
    }
    for _ in 0..20 {
        world.beat();
    }
    assert_eq!(world.unrest(), None);
    world
}

/// Clocks that go alike.
const EVEN: [(u64, u64); 3] = [(2, 0), (2, 5), (2, 9)];
/// Clocks of which one goes half as fast again.
const FAST: [[(u64, u64); 3]; 3] = [
    [(3, 0), (2, 5), (2, 9)],
    [(2, 0), (3, 5), (2, 9)],
    [(2, 0), (2, 5), (3, 9)],
];
const NONE: Faults = Faults {
    crashes: 0,
    starts: 0,
    pauses: 0,
    pauses_end_any_time: false,
    leaves: 0,
    blind: 0,
    cuts: 0,
    mutes: 0,
    late: 0,
    slow: 0,
};

/// Looks at everything; answers after how many beats all is well again at the latest.
fn check(world: World, faults: Faults) -> usize {
    let checked = Graph::explore(State { world, faults })
        .and_then(|graph| Ok((graph.states.len(), graph.beats_to_rest()?)));
    let (states, beats) = checked.unwrap_or_else(|wrong| panic!("{faults:?}: {wrong}"));
    println!("{states} states, at rest after {beats} beats: {faults:?}");
    beats
}

/// A lease on an even clock, and one beat to take it.
const FAILOVER: usize = 7;

#[test]
fn two_crashes_and_a_pause_longer_than_a_lease_leave_every_shard_with_one_owner() {
    let faults = Faults {
        crashes: 2,
        pauses: 1,
        ..NONE
    };
    for clocks in [EVEN].iter().chain(&FAST) {
        assert!(check(calm(TIMES, *clocks), faults) <= FAILOVER);
    }
}

#[test]
fn a_crash_a_restart_and_a_pause_of_any_length_do() {
    let faults = Faults {
        crashes: 1,
        starts: 1,
        pauses: 1,
        pauses_end_any_time: true,
        ..NONE
    };
    assert!(check(calm(TIMES, EVEN), faults) <= FAILOVER);
}

#[test]
fn a_drain_beside_a_crash_and_lost_answers_does() {
    let faults = Faults {
        crashes: 1,
        leaves: 1,
        mutes: 1,
        ..NONE
    };
    assert!(check(calm(TIMES, EVEN), faults) <= FAILOVER);
}

#[test]
fn requests_that_arrive_late_or_unnoticed_while_the_watch_is_blind_do() {
    for (mutes, slow, clocks) in [(1, 0, EVEN), (0, 1, EVEN), (0, 1, FAST[0])] {
        let faults = Faults {
            blind: 1,
            mutes,
            slow,
            ..NONE
        };
        check(calm(TIMES, clocks), faults);
    }
}

#[test]
fn a_request_that_arrives_late_beside_a_crash_or_a_pause_does() {
    for (crashes, pauses) in [(1, 0), (0, 1)] {
        let faults = Faults {
            slow: 1,
            crashes,
            pauses,
            ..NONE
        };
        check(calm(TIMES, EVEN), faults);
    }
}

#[test]
fn answers_that_are_late_or_lost_before_a_pause_do() {
    for (mutes, late) in [(1, 0), (0, 1), (0, 2)] {
        let faults = Faults {
            pauses: 1,
            mutes,
            late,
            ..NONE
        };
        check(calm(TIMES, FAST[2]), faults);
    }
}

#[test]
fn requests_that_are_lost_for_longer_than_a_deadline_do() {
    let faults = Faults { cuts: 5, ..NONE };
    check(calm(TIMES, EVEN), faults);
}

#[test]
fn replicas_that_start_one_after_another_do() {
    let faults = Faults { starts: 3, ..NONE };
    check(World::new(4, TIMES, &EVEN), faults);
}

#[test]
fn shards_of_a_drained_replica_are_taken_without_waiting_for_a_lease_to_end() {
    let faults = Faults { leaves: 2, ..NONE };
    assert!(check(calm(TIMES, EVEN), faults) <= 4);
}

/// `make model`
#[test]
#[ignore = "3.6 million states, in a release build: make model"]
fn many_faults_at_once_leave_every_shard_with_one_owner() {
    for clocks in [EVEN].into_iter().chain(FAST) {
        for faults in [
            Faults {
                crashes: 2,
                starts: 1,
                pauses: 1,
                ..NONE
            },
            Faults {
                crashes: 1,
                starts: 1,
                leaves: 1,
                mutes: 1,
                ..NONE
            },
            Faults {
                crashes: 1,
                blind: 1,
                slow: 1,
                ..NONE
            },
            Faults {
                blind: 1,
                mutes: 1,
                slow: 1,
                ..NONE
            },
            Faults {
                pauses: 1,
                mutes: 1,
                slow: 1,
                ..NONE
            },
            Faults {
                starts: 1,
                leaves: 1,
                mutes: 1,
                slow: 1,
                ..NONE
            },
            Faults {
                cuts: 4,
                slow: 1,
                ..NONE
            },
            Faults {
                mutes: 4,
                slow: 1,
                ..NONE
            },
            Faults {
                leaves: 1,
                blind: 2,
                ..NONE
            },
        ] {
            check(calm(TIMES, clocks), faults);
        }
        let faults = Faults {
            starts: 4,
            crashes: 1,
            mutes: 1,
            ..NONE
        };
        check(World::new(4, TIMES, &clocks), faults);
    }
}

/// The shortest way to two deciders.
fn overlap(times: LeaseTimes, clocks: [(u64, u64); 3], change: impl Fn(&mut World)) -> String {
    let mut world = calm(times, clocks);
    change(&mut world);
    let faults = Faults {
        crashes: 1,
        pauses: 1,
        ..NONE
    };
    let found = Graph::explore(State { world, faults }).err();
    let story = found.expect("an overlap is found");
    println!("{story}");
    assert!(story.contains("deciders"), "{story}");
    story
}

#[test]
fn a_deadline_later_than_the_lease_is_found_out() {
    let times = LeaseTimes {
        deadline: units(13),
        ..TIMES
    };
    overlap(times, EVEN, |_| {});
}

#[test]
fn expiry_by_the_written_time_is_found_out() {
    overlap(TIMES, [(2, 0), (2, 0), (2, 24)], |world| {
        world.by_written_time = true
    });
}

#[test]
fn clocks_that_differ_by_more_than_lease_to_deadline_are_found_out() {
    overlap(TIMES, [(2, 0), (2, 5), (4, 9)], |_| {});
    let times = LeaseTimes {
        deadline: units(9),
        ..TIMES
    };
    overlap(times, FAST[2], |_| {});
}
