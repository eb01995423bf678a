//! What the viewer sees while it runs: a live view in a terminal, lines of plain text elsewhere, nothing in
//! tests. Looks at the real clock, and changes nothing but the screen.

use std::{
    io::{IsTerminal, Stdout, Write, stdout},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ratatui::{
    Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    crossterm::{
        cursor,
        event::{self, Event, KeyCode, KeyModifiers},
        execute, terminal,
    },
};

use crate::{
    board::{Condition, Counts, OrderCounts},
    draw::{self, Palette},
    plot::CHAPTERS,
    stage::Settings,
};

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(100);
/// Between two lines of plain text.
const LINE: Duration = Duration::from_secs(2);
/// A terminal that is smaller gets plain text.
const LEAST: (u16, u16) = (72, 20);
/// Rows of the view, if there are so many.
const ROWS: u16 = 32;

/// A part of the story.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chapter {
    pub(crate) name: &'static str,
    pub(crate) story: String,
    /// Once it is over.
    pub(crate) outcome: Option<String>,
    /// Virtual time.
    pub(crate) took: Duration,
}

/// What is to be shown.
pub(crate) struct Scene<'a> {
    pub(crate) settings: Settings,
    /// Virtual time.
    pub(crate) elapsed: Duration,
    /// Whether korder runs.
    pub(crate) alive: bool,
    pub(crate) counts: &'a Counts,
    pub(crate) queue: &'a [u64],
    pub(crate) chapters: &'a [Chapter],
}

/// The user wants no more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Where the scene is shown.
pub(crate) struct Screen {
    look: Look,
    begun: Instant,
    next: Instant,
    speed: Speed,
}

enum Look {
    Live(Box<Live>),
    Plain { told: usize },
    Nothing,
}

/// How much faster than real time it goes.
struct Speed {
    since: (Instant, Duration),
    factor: f64,
}

impl Speed {
    /// The factor over about the last second.
    fn at(&mut self, now: Instant, elapsed: Duration) -> f64 {
        let real = now.duration_since(self.since.0).as_secs_f64();
        if real > 0.9 || self.factor == 0.0 {
            self.factor = (elapsed.saturating_sub(self.since.1)).as_secs_f64() / real.max(0.05);
            self.since = (now, elapsed);
        }
        self.factor
    }
}

impl Screen {
    /// A live view if standard output is a terminal that can show it.
    pub(crate) fn new() -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb" || term.is_empty());
        let capable = stdout().is_terminal() && !dumb;
        let large = terminal::size().is_ok_and(|(width, height)| width >= LEAST.0 && height >= LEAST.1);
        let live = (capable && large).then(Live::start).and_then(Result::ok);
        Self::of(live.map_or(Look::Plain { told: 0 }, |live| Look::Live(Box::new(live))))
    }

    /// Shows nothing.
    pub(crate) fn nothing() -> Self {
        Self::of(Look::Nothing)
    }

    fn of(look: Look) -> Self {
        let now = Instant::now();
        Self {
            look,
            begun: now,
            next: now,
            speed: Speed {
                since: (now, Duration::ZERO),
                factor: 0.0,
            },
        }
    }

    /// Real time since the beginning.
    pub(crate) fn real(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether it is time to show something.
    pub(crate) fn due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Shows the scene.
    ///
    /// # Errors
    /// [`Interrupted`] if the user has asked for the end, or the terminal's.
    pub(crate) fn show(&mut self, scene: &Scene<'_>) -> Result<()> {
        let now = Instant::now();
        let speed = self.speed.at(now, scene.elapsed);
        let real = now.duration_since(self.begun);
        match &mut self.look {
            Look::Live(live) => {
                self.next = now + FRAME;
                live.draw(scene, speed, real)
            }
            Look::Plain { told } => {
                self.next = now + LINE;
                *told = tell(scene, *told)?;
                line(scene, speed).context("writing a line")
            }
            Look::Nothing => {
                self.next = now + LINE;
                Ok(())
            }
        }
    }

    /// Shows the scene for the last time and gives the terminal back.
    ///
    /// # Errors
    /// As [`Screen::show`].
    pub(crate) fn end(&mut self, scene: &Scene<'_>) -> Result<()> {
        let shown = match &mut self.look {
            Look::Plain { told } => tell(scene, *told).map(|_| ()),
            _ => self.show(scene),
        };
        self.look = Look::Nothing;
        shown
    }
}

/// A view at the end of what the terminal shows; gives it back when dropped.
struct Live {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    palette: Palette,
}

impl Live {
    fn start() -> Result<Self> {
        let height = terminal::size()?.1.saturating_sub(1).min(ROWS);
        terminal::enable_raw_mode()?;
        let given_back = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            given_back(panic);
        }));
        let options = TerminalOptions {
            viewport: Viewport::Inline(height),
        };
        let terminal = Terminal::with_options(CrosstermBackend::new(stdout()), options);
        let terminal = terminal.inspect_err(|_| give_back())?;
        let colored = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            terminal,
            palette: Palette::new(colored),
        })
    }

    fn draw(&mut self, scene: &Scene<'_>, speed: f64, real: Duration) -> Result<()> {
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                let control = key.modifiers.contains(KeyModifiers::CONTROL);
                if control && key.code == KeyCode::Char('c') || key.code == KeyCode::Char('q') {
                    return Err(Interrupted.into());
                }
            }
        }
        let palette = self.palette;
        self.terminal
            .draw(|frame| draw::draw(frame, scene, palette, speed, real))?;
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let area = self.terminal.get_frame().area();
        let last = area.bottom().saturating_sub(1);
        // Nothing can be done if the terminal is gone.
        let _gone = self.terminal.set_cursor_position((0, last));
        give_back();
        println!();
    }
}

fn give_back() {
    // Nothing can be done if the terminal is gone.
    let _gone = (terminal::disable_raw_mode(), execute!(stdout(), cursor::Show));
}

/// Tells of chapters that have begun or ended since; returns how many were told.
fn tell(scene: &Scene<'_>, told: usize) -> Result<usize> {
    let mut out = stdout().lock();
    // Each chapter is told twice: what begins, and what came of it.
    let (mut told, mut next) = (told, 0);
    for (index, chapter) in scene.chapters.iter().enumerate() {
        next += 1;
        if next > told {
            writeln!(
                out,
                "{}/{CHAPTERS} {}: {}",
                index + 1,
                chapter.name,
                chapter.story
            )?;
        }
        let Some(outcome) = &chapter.outcome else { break };
        next += 1;
        if next > told {
            writeln!(out, "    {outcome} ({:.1} s virtual)", chapter.took.as_secs_f64())?;
        }
    }
    told = told.max(next);
    Ok(told)
}

fn line(scene: &Scene<'_>, speed: f64) -> std::io::Result<()> {
    let counts = scene.counts;
    let nodes = |condition| grouped(counts.nodes(condition) as usize);
    let all: u64 = counts.orders.iter().map(OrderCounts::all).sum();
    let mut out = stdout().lock();
    writeln!(
        out,
        "  {}{} nodes: {} ready, {} tainted, {} cordoned, {} not ready; Tickets: {} of {} Reserved; \
         queue {}; {speed:.1} x real time",
        clock(scene.elapsed),
        if scene.alive { "" } else { " korder is down;" },
        nodes(Condition::Ready),
        nodes(Condition::Tainted),
        nodes(Condition::Cordoned),
        nodes(Condition::NotReady),
        grouped(counts.reserved()),
        grouped(all),
        grouped(scene.queue.last().copied().unwrap_or_default()),
    )?;
    out.flush()
}

/// Minutes and seconds.
pub(crate) fn clock(elapsed: Duration) -> String {
    format!("{:02}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

/// `12345` as `12,345`.
pub(crate) fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
    fn time_is_in_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_millis(754_900)), "12:34");
    }
}
