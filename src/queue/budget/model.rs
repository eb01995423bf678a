//! A small API server in virtual time, and a replica that always has something to write.
//!
//! The server answers what is within its limit after its latency, and the rest at once with 429; the
//! replica begins whatever the budget admits. Figures of `docs/decisions/how-many-requests-at-once.md`.

use std::{collections::BTreeSet, time::Duration};

use super::{Admission, Budget, Feedback};
use crate::{domain::values::time::Mono, queue::limit::MOST};

/// What the server does from a moment on.
#[derive(Clone, Copy)]
struct Server {
    /// Requests in flight that it bears.
    places: usize,
    latency: Duration,
    /// Every so-manieth request gets no answer; 0 for none.
    loses: u64,
}

/// No answer within this is silence.
const TIMEOUT: Duration = Duration::from_secs(4);
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Taken,
    TooMuch,
    Lost,
}

struct Model {
    budget: Budget,
    now: Mono,
    server: Server,
    /// What is under way: when it ends, its number, when it began, how.
    under_way: BTreeSet<(Mono, u64, Mono, End)>,
    begun: u64,
    taken: u64,
    refused: u64,
    /// Requests that began although a Retry-After had not passed.
    early: u64,
    not_before: Mono,
}

fn server(places: usize, latency_ms: u64) -> Server {
    Server {
        places,
        latency: Duration::from_millis(latency_ms),
        loses: 0,
    }
}

/// So many places are no limit.
const STRONG: usize = 1000;
/// Seconds over which steady state is measured.
const STEADY: u64 = 200;

impl Model {
    fn new(server: Server) -> Self {
        Self {
            budget: Budget::default(),
            now: Mono::default(),
            server,
            under_way: BTreeSet::new(),
            begun: 0,
            taken: 0,
            refused: 0,
            early: 0,
            not_before: Mono::default(),
        }
    }

    fn begin(&mut self) {
        self.budget.begin(self.now);
        self.begun += 1;
        self.early += u64::from(self.now < self.not_before);
        let served = self
            .under_way
            .iter()
            .filter(|(.., end)| *end == End::Taken)
            .count();
        let lost = self.server.loses > 0 && self.begun.is_multiple_of(self.server.loses);
        let (after, end) = if lost {
            (TIMEOUT, End::Lost)
        } else if served >= self.server.places {
            (Duration::from_millis(1), End::TooMuch)
        } else {
            // No two requests take equally long.
            (
                self.server.latency.mul_f64(1.0 + (self.begun % 7) as f64 / 10.0),
                End::Taken,
            )
        };
        self.under_way
            .insert((self.now.after(after), self.begun, self.now, end));
    }

    fn end(&mut self, (_, _, begun, end): (Mono, u64, Mono, End)) {
        let feedback = match end {
            End::Taken => Feedback::Served,
            End::TooMuch => Feedback::TooMuch(Some(RETRY_AFTER)),
            End::Lost => Feedback::Silence,
        };
        if end == End::TooMuch {
            self.not_before = self.now.after(RETRY_AFTER);
        }
        self.taken += u64::from(end == End::Taken);
        self.refused += u64::from(end == End::TooMuch);
        self.budget.end(begun, feedback, self.now);
    }

    /// Runs for a while; returns what was taken and refused meanwhile.
    fn run(&mut self, span: Duration) -> (u64, u64) {
        let (until, taken, refused) = (self.now.after(span), self.taken, self.refused);
        while self.now < until {
            while let Some(&next) = self.under_way.first()
                && next.0 <= self.now
            {
                self.under_way.pop_first();
                self.end(next);
            }
            let next = self.under_way.first().map(|next| next.0);
            self.now = match self.budget.admission(self.now) {
                Admission::Now => {
                    self.begin();
                    continue;
                }
                Admission::At(at) => next.map_or(at, |next| next.min(at)),
                Admission::Full => next.expect("full of something"),
            }
            .min(until);
        }
        (self.taken - taken, self.refused - refused)
    }

    /// Seconds until what is taken in a second is nine tenths of `full`.
    fn recovers(&mut self, full: u64) -> u64 {
        (1..=120)
            .find(|_| self.run(Duration::from_secs(1)).0 * 10 >= full * 9)
            .unwrap_or(u64::MAX)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_strong_server_is_asked_at_full_speed_from_the_first_second() {
    let mut model = Model::new(server(STRONG, 20));
    let (taken, refused) = model.run(seconds(10));
    // 24 at once, each 26 ms on average.
    assert!(taken > 9_000 && refused == 0, "{taken} taken, {refused} refused");
}

#[test]
fn no_more_than_the_rate_even_if_the_server_is_faster() {
    let mut model = Model::new(server(STRONG, 1));
    let (taken, _) = model.run(seconds(10));
    assert!((19_000..=20_250).contains(&taken), "{taken}");
}

#[test]
fn a_server_with_few_places_refuses_at_most_a_tenth_and_is_never_asked_too_early() {
    for places in [1, 2, 3, 4, 5, 8, 12, 20] {
        for latency in [10, 50, 500, 2000] {
            let mut model = Model::new(server(places, latency));
            model.run(seconds(60));
            let (taken, refused) = model.run(seconds(STEADY));
            let ratio = refused as f64 / taken as f64;
            let most = places as f64 * STEADY as f64 * 1000.0 / (latency as f64 * 1.3);
            let share = taken as f64 / most.min(2000.0 * STEADY as f64);
            println!(
                "{places} places, {latency} ms: {taken} taken ({share:.2} of what is possible), {ratio:.4} refused"
            );
            assert!(
                ratio <= 0.1,
                "{places} places, {latency} ms: {refused} of {taken}"
            );
            assert!(
                share > 0.5,
                "{places} places, {latency} ms: {share:.2} of what is possible"
            );
            assert_eq!(model.early, 0, "{places} places, {latency} ms");
        }
    }
}

#[test]
fn full_speed_is_back_within_thirty_seconds_after_the_limit_goes() {
    let mut slowest = 0;
    for places in [1, 2, 4, 8, 16] {
        for latency in [5, 20, 100] {
            for wait in 0..6 {
                let mut model = Model::new(server(places, latency));
                model.run(seconds(30) + Duration::from_millis(wait * 1777));
                model.server = server(STRONG, latency);
                let full = Model::new(model.server).run(seconds(10)).0 / 10;
                slowest = slowest.max(model.recovers(full));
            }
        }
    }
    println!("full speed after at most {slowest} s");
    assert!(slowest <= 30, "{slowest} s");
}

#[test]
fn full_speed_is_back_within_thirty_seconds_after_an_outage() {
    let mut slowest = 0;
    for outage in [3, 10, 33, 60, 601] {
        for latency in [5, 20, 100] {
            let mut model = Model::new(server(STRONG, latency));
            model.run(seconds(5));
            model.server.loses = 1;
            let before = model.begun;
            model.run(seconds(outage));
            assert!(
                model.begun - before < 80 + outage / 2,
                "{} asked in vain",
                model.begun - before
            );
            model.server.loses = 0;
            let full = Model::new(model.server).run(seconds(10)).0 / 10;
            slowest = slowest.max(model.recovers(full));
        }
    }
    println!("full speed after at most {slowest} s");
    assert!(slowest <= 30, "{slowest} s");
}

#[test]
fn answers_lost_now_and_then_do_not_slow_the_rest() {
    let mut model = Model::new(Server {
        loses: 100,
        ..server(STRONG, 20)
    });
    let (taken, _) = model.run(seconds(60));
    // Each lost one holds its place for four seconds.
    assert_eq!(model.budget.limit(), MOST);
    assert!(taken > 10_000, "{taken}");
}

#[test]
fn many_refusals_of_one_flight_close_the_gate_for_one_second_and_halve_once() {
    let mut model = Model::new(server(4, 100));
    model.run(Duration::from_millis(50));
    assert_eq!((model.begun, model.budget.limit()), (24, MOST / 2));
    model.run(Duration::from_millis(940));
    assert_eq!(model.begun, 24, "the gate is closed");
}

#[test]
fn a_server_whose_places_change_is_followed() {
    let mut model = Model::new(server(4, 20));
    model.run(seconds(60));
    let (mut taken, mut refused) = (0, 0);
    for step in 0..30 {
        model.server.places = 2 + (step * 7) % 6;
        let (t, r) = model.run(seconds(10));
        (taken, refused) = (taken + t, refused + r);
    }
    let ratio = refused as f64 / taken as f64;
    println!("{taken} taken, {ratio:.4} refused");
    assert!(ratio <= 0.1 && taken > 25_000, "{taken} taken, {ratio}");
}
