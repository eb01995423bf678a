//! What a demo came to: facts, the rules that were checked, and what broke one.

use super::{line::Tint, screen::Screen, text::grouped};

/// So many violations are told.
const MOST: usize = 20;

/// Writes of korder that have reached the API server, Leases apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// On Tickets and Guardians.
    pub pairs: u64,
    /// On the status of Orders, and Events.
    pub others: u64,
}

impl Writes {
    /// Those that `before` does not count.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            pairs: self.pairs - before.pairs,
            others: self.others - before.others,
        }
    }

    /// All of them.
    pub fn all(self) -> u64 {
        self.pairs + self.others
    }

    /// What a chapter came to, in which so many Tickets were made and removed.
    pub fn led_to(self, made: u64, removed: u64) -> String {
        let tickets = match (made, removed) {
            (0, 0) => "no Ticket made or removed".to_owned(),
            (made, 0) => format!("{} Tickets made", grouped(made)),
            (0, removed) => format!("{} Tickets removed", grouped(removed)),
            (made, removed) => format!("{} Tickets removed, {} made", grouped(removed), grouped(made)),
        };
        format!("{tickets}, {} writes", grouped(self.pairs))
    }
}

/// What is told in the end.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    facts: Vec<(&'static str, String)>,
    checks: Vec<(String, &'static [&'static str])>,
    /// What broke a rule.
    pub violations: Vec<String>,
}

impl Summary {
    /// What is known of something.
    pub fn fact(&mut self, name: &'static str, text: String) {
        self.facts.push((name, text));
    }

    /// Tickets made, removed and Reserved, on so many nodes for so many Orders.
    pub fn tickets(&mut self, [made, removed, reserved]: [u64; 3], nodes: usize, orders: usize) {
        let [made, removed, reserved] = [made, removed, reserved].map(grouped);
        let nodes = grouped(nodes);
        self.fact(
            "Tickets",
            format!("{made} made and {removed} removed on {nodes} nodes for {orders} Orders, {reserved} Reserved now"),
        );
    }

    /// What the first Tickets cost until they were Reserved, and all that was written.
    pub fn writes(&mut self, (first, wrote): (u64, Writes), all: Writes) {
        let each = |writes: u64| writes as f64 / first.max(1) as f64;
        self.fact(
            "writes per Ticket",
            format!(
                "{:.2} from the Order to Reserved (Ticket, Guardian, status), {:.3} more for Order status and Events; \
                 {} and {} writes in all",
                each(wrote.pairs),
                each(wrote.others),
                grouped(all.pairs),
                grouped(all.others),
            ),
        );
    }

    /// Rules, and when they were checked.
    pub fn checked(&mut self, when: String, rules: &'static [&'static str]) {
        self.checks.push((when, rules));
    }

    /// Tells it, and says whether all rules were kept.
    pub fn tell(&self, screen: &Screen) -> bool {
        screen.title(Tint::STRONG, "Summary");
        self.facts.iter().for_each(|(name, text)| screen.fact(name, text));
        for (when, rules) in &self.checks {
            screen.title(Tint::STRONG, &format!("Checked {when}"));
            rules.iter().for_each(|rule| screen.item(rule));
        }
        let count = self.violations.len();
        match count {
            0 => screen.title(Tint::GOOD, "No violations."),
            1 => screen.title(Tint::BAD, "1 violation:"),
            _ => screen.title(Tint::BAD, &format!("{count} violations:")),
        }
        let told = self.violations.iter().take(MOST);
        told.for_each(|violation| screen.item(violation));
        count == 0
    }
}
