//! What the user sees: at most 79 columns. On a terminal the progress bars are redrawn in place; elsewhere a
//! plain line follows every few seconds, without escape codes. `NO_COLOR` is respected.

use std::{
    fmt::Display,
    io::{IsTerminal, Write as _, stdout},
    time::{Duration, Instant},
};

use crate::rules::ORDERS;

/// Without a terminal, a line of progress this often.
const PLAIN_EVERY: Duration = Duration::from_secs(4);
const BAR: usize = 36;
/// Columns of the table: what changed, one Order, writes on Tickets and Guardians, other writes.
const WHAT: usize = 22;
const CELL: usize = 16;

/// Where and how to print.
pub(crate) struct Screen {
    terminal: bool,
    color: bool,
    /// Lines to go up to redraw the bars.
    drawn: usize,
    started: Instant,
    next_plain: Duration,
}

/// What korder did for one Order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) made: usize,
    pub(crate) gone: usize,
    pub(crate) kept: usize,
}

/// How far an Order is: Tickets made, of those Reserved, and eligible nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) made: usize,
    pub(crate) reserved: usize,
    pub(crate) all: usize,
}

/// One row of the table.
pub(crate) struct Row<'a> {
    pub(crate) what: &'a str,
    pub(crate) cells: [Cell; 3],
    /// On Tickets and Guardians, and others.
    pub(crate) writes: (usize, usize),
    pub(crate) why: &'a str,
    pub(crate) differs: &'a [String],
}

impl Screen {
    pub(crate) fn new() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let terminal = stdout().is_terminal() && variable("TERM") != "dumb";
        Self {
            terminal,
            color: terminal && variable("NO_COLOR").is_empty(),
            drawn: 0,
            started: Instant::now(),
            next_plain: Duration::ZERO,
        }
    }

    /// A task begins; [`Self::done`] ends its line.
    pub(crate) fn doing(&mut self, what: &str) {
        self.started = Instant::now();
        print!("  {what:<54}");
        // Nothing can be done if the terminal is gone.
        let _ = stdout().flush();
    }

    /// The task that began last is done.
    pub(crate) fn done(&self, how: &str) {
        println!("{how} ({:.1} s)", self.started.elapsed().as_secs_f64());
    }

    pub(crate) fn heading(&self, text: &str) {
        println!("\n{}", self.styled("1", text));
    }

    /// Begins the progress of Orders.
    pub(crate) fn begin_progress(&mut self) {
        (self.started, self.drawn, self.next_plain) = (Instant::now(), 0, Duration::ZERO);
        if self.terminal {
            println!("  # Reserved   - made, not yet Reserved");
        } else {
            let names = ORDERS.map(|order| format!("  {}", order.name)).concat();
            println!("   time    made{names}");
        }
    }

    /// Shows how far each Order is.
    pub(crate) fn progress(&mut self, orders: [Progress; 3]) {
        let elapsed = self.started.elapsed();
        let finished = orders.iter().all(|order| order.reserved == order.all);
        if self.terminal {
            self.draw(orders, elapsed);
        } else if finished || elapsed >= self.next_plain {
            self.next_plain = elapsed + PLAIN_EVERY;
            let made: usize = orders.iter().map(|order| order.made).sum();
            let cells = orders.iter().zip(&ORDERS).map(|(progress, order)| {
                let width = order.name.len() + 2;
                format!("{:>width$}", format!("{}/{}", progress.reserved, progress.all))
            });
            println!("{:>5} s{made:>8}{}", elapsed.as_secs(), cells.collect::<String>());
        }
    }

    fn draw(&mut self, orders: [Progress; 3], elapsed: Duration) {
        let mut text = String::new();
        if self.drawn > 0 {
            text += &format!("\x1b[{}A", self.drawn);
        }
        for (progress, order) in orders.into_iter().zip(&ORDERS) {
            let Progress { made, reserved, all } = progress;
            let length = |count: usize| (count.min(all) * BAR).checked_div(all).unwrap_or(BAR);
            let full = length(reserved);
            let begun = length(made).max(full) - full;
            let bar = self.styled("32", &"#".repeat(full));
            let begun_bar = self.styled("33", &"-".repeat(begun));
            let rest = " ".repeat(BAR - full - begun);
            let count = format!("{reserved}/{all}");
            text += &format!(
                "\x1b[2K  {:<26} [{bar}{begun_bar}{rest}]{count:>12}\n",
                order.name
            );
        }
        text += &format!("\x1b[2K  {:.0} s\n", elapsed.as_secs_f64());
        self.drawn = orders.len() + 1;
        print!("{text}");
        let _ = stdout().flush();
    }

    pub(crate) fn table_head(&self) {
        let names = ORDERS.map(|order| format!("{:>CELL$}", order.heading)).concat();
        println!("{:WHAT$}{names}   writes", "");
        let words = line("what changed", [["made", "gone", "kept"]; 3], ["T+G", "O"]);
        println!("{}", self.styled("1", &words));
    }

    pub(crate) fn row(&self, row: &Row<'_>) {
        println!("{}", row.line());
        for text in wrap(row.why, 75) {
            println!("{}", self.styled("2", &format!("  {text}")));
        }
        let differs = row.differs.iter().map(|differs| format!("DIFFERS: {differs}"));
        for text in differs.flat_map(|differs| wrap(&differs, 75)) {
            println!("{}", self.styled("31", &format!("  {text}")));
        }
    }

    /// A paragraph.
    pub(crate) fn say(&self, text: &str) {
        wrap(text, 78).iter().for_each(|line| println!("{line}"));
    }

    /// A line of the summary.
    pub(crate) fn fact(&self, name: &str, text: &str) {
        let mut name = name;
        for line in wrap(text, 57) {
            println!("  {name:<19} {line}");
            name = "";
        }
    }

    pub(crate) fn good(&self, text: &str) {
        println!("\n{}", self.styled("1;32", text));
    }

    pub(crate) fn bad(&self, text: &str) {
        println!("\n{}", self.styled("1;31", text));
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Row<'_> {
    fn line(&self) -> String {
        let signed = |sign: char, count: usize| match count {
            0 => ".".to_owned(),
            _ => format!("{sign}{count}"),
        };
        let cell = |cell: Cell| {
            [
                signed('+', cell.made),
                signed('-', cell.gone),
                cell.kept.to_string(),
            ]
        };
        line(self.what, self.cells.map(cell), [self.writes.0, self.writes.1])
    }
}

/// A line of the table.
fn line<C: Display, W: Display>(what: &str, cells: [[C; 3]; 3], [ours, others]: [W; 2]) -> String {
    let cell = |[made, gone, kept]: [C; 3]| format!("{made:>6}{gone:>5}{kept:>5}");
    format!("{what:<WHAT$}{}{ours:>5}{others:>4}", cells.map(cell).concat())
}

/// `12345` as `12,345`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrap("a bb ccc dddddd", 5), ["a bb", "ccc", "dddddd"]);
    }

    #[test]
    fn table_fits_80_columns() {
        let most = Cell {
            made: 25_000,
            gone: 999,
            kept: 25_000,
        };
        let row = Row {
            what: "20 labels team=blue",
            cells: [most; 3],
            writes: (84_375, 999),
            why: "",
            differs: &[],
        };
        assert_eq!(row.line().chars().count(), 79);
    }
}
