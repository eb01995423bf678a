//! The end of the demo: what it came to, and which rules were checked.

use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

use crate::{
    fleet::ORDERS,
    plot::Facts,
    screen::{clock, grouped},
    stage::Stage,
};

/// Columns of the text.
const WIDTH: usize = 78;

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    facts: Facts,
    nodes: usize,
    seed: u64,
    tickets: (u64, u64, u64),
    writes: (u64, u64),
    /// What broke a rule.
    pub(crate) violations: Vec<String>,
    revisions: u64,
    /// The journal's digest and number of lines.
    pub(crate) digest: (u64, u64),
    virtual_time: Duration,
    pub(crate) reserved_within: Option<[f64; 2]>,
}

impl Summary {
    /// Of a run that is over.
    pub(crate) fn of(stage: &Stage, facts: Facts) -> Self {
        let (violations, revisions) = stage.verdict();
        let counts = stage.board.counts();
        let writes = stage.writes();
        Self {
            facts,
            nodes: stage.settings.nodes,
            seed: stage.settings.seed,
            tickets: (counts.made, counts.removed, counts.reserved()),
            writes: (writes.pairs, writes.others),
            violations,
            revisions,
            digest: stage.cluster.journal().digest(),
            virtual_time: stage.cluster.elapsed(),
            reserved_within: stage.gauges.reserved_within([50, 99]),
        }
    }

    /// Prints it; `real` is how long it has taken.
    pub(crate) fn print(&self, real: Duration) {
        let ink = Ink::new();
        println!("\n{}", ink.styled("1", "Summary"));
        let (virtual_, real) = (self.virtual_time, real.as_secs_f64());
        let factor = virtual_.as_secs_f64() / real.max(0.001);
        fact(
            "time",
            &format!(
                "{} min of virtual time in {real:.1} s: {factor:.0} times as fast as real time",
                clock(virtual_)
            ),
        );
        let (made, removed, now) = self.tickets;
        fact(
            "Tickets",
            &format!(
                "{} made and {} removed on {} nodes for {} Orders, {} Reserved now",
                grouped(made),
                grouped(removed),
                grouped(self.nodes),
                ORDERS.len(),
                grouped(now)
            ),
        );
        let (first, wrote) = self.facts.reserved;
        let each = |writes: u64| writes as f64 / first.max(1) as f64;
        fact(
            "writes per Ticket",
            &format!(
                "{:.2} from the Order to Reserved (Ticket, Guardian, status), {:.3} more for Order status and \
                 Events; {} and {} writes in all",
                each(wrote.pairs),
                each(wrote.others),
                grouped(self.writes.0),
                grouped(self.writes.1),
            ),
        );
        if let Some([half, most]) = self.reserved_within {
            let text = format!("half within {half:.2} s, 99 % within {most:.2} s of virtual time");
            fact("change to Reserved", &text);
        }
        let (heartbeats, writes) = self.facts.heartbeats;
        let (calm, calm_writes) = self.facts.calm;
        fact(
            "heartbeats",
            &format!(
                "{} while nothing else happened: {} writes",
                grouped(heartbeats + calm),
                writes + calm_writes
            ),
        );
        let (at, of) = self.facts.killed_at;
        fact(
            "the crash",
            &format!(
                "korder was killed with {} of {} Tickets Reserved; after its restart no Ticket was made twice \
                 and {} writes were made again",
                grouped(at),
                grouped(of),
                self.facts.crash_cost
            ),
        );
        let (digest, lines) = self.digest;
        let text = format!(
            "SEED={} NODES={}: {} lines, digest {digest:016x}; the same seed, the same run",
            self.seed,
            self.nodes,
            grouped(lines)
        );
        fact("journal", &text);
        self.print_verdict(&ink);
    }

    fn print_verdict(&self, ink: &Ink) {
        let title = format!("Checked at each of {} revisions", grouped(self.revisions));
        println!("\n{}", ink.styled("1", &title));
        rule("never two open Tickets of one Order on one node, nor two Guardians of one Ticket");
        rule("new Tickets only on nodes that are eligible, under the one name that the rules give them");
        rule("no Ticket and no bound Guardian removed without a rule that says so");
        println!("{}", ink.styled("1", "Checked after each chapter"));
        rule(
            "every eligible node has its Ticket and its bound Guardian, of the Order's template; no other has",
        );
        rule("the sum of requests on each node is at most what it has to give");
        rule("the status of every Order counts what is there");
        rule("heartbeats lead to no write");
        if self.violations.is_empty() {
            println!("\n{}", ink.styled("1;32", "No violations."));
            return;
        }
        let title = format!("{} violations:", self.violations.len());
        println!("\n{}", ink.styled("1;31", &title));
        for violation in self.violations.iter().take(20) {
            rule(violation);
        }
    }
}

/// Colours, where they are wanted.
struct Ink(bool);

impl Ink {
    fn new() -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self(wanted && !dumb && stdout().is_terminal())
    }

    fn styled(&self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

fn fact(name: &str, text: &str) {
    let mut name = name;
    for line in wrap(text, WIDTH - 22) {
        println!("  {name:<19} {line}");
        name = "";
    }
}

fn rule(text: &str) {
    let mut mark = '-';
    for line in wrap(text, WIDTH - 4) {
        println!("  {mark} {line}");
        mark = ' ';
    }
}

/// Breaks a text between words; a word longer than `width` stands alone.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if line.is_empty() {
            *line = word.to_owned();
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            *line += " ";
            *line += word;
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
