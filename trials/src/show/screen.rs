//! Where it is shown: as a picture that is drawn again in place, line by line, or not at all.

use std::{
    fs::File,
    io::{IsTerminal, Result, Write, stdout},
    process::Command,
    time::{Duration, Instant},
};

use super::{
    line::{Line, Tint},
    picture::{Scene, picture},
    text::wrap,
};

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(100);
/// Between two lines of plain text.
const LINE: Duration = Duration::from_secs(2);
/// A terminal that is smaller gets plain text.
const LEAST: (usize, usize) = (72, 20);
/// Rows of the picture, if there are so many.
const ROWS: usize = 32;
/// Columns of text.
const TEXT: usize = 78;

/// Where scenes and texts are shown.
pub struct Screen {
    look: Look,
    /// Whether colours are wanted, and possible.
    tinted: bool,
    begun: Instant,
    next: Instant,
}

enum Look {
    /// In so many columns and rows; so many lines are to be drawn again.
    Picture {
        size: (usize, usize),
        drawn: usize,
    },
    /// What was told of the chapters.
    Plain {
        told: usize,
    },
    Nothing,
}

impl Screen {
    /// A picture if standard output is a terminal that can show it.
    pub fn new() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let terminal = stdout().is_terminal() && !matches!(&*variable("TERM"), "" | "dumb");
        let size = if terminal { size() } else { None };
        let size = size.filter(|(columns, rows)| *columns >= LEAST.0 && *rows >= LEAST.1);
        Self {
            look: size.map_or(Look::Plain { told: 0 }, |size| Look::Picture { size, drawn: 0 }),
            tinted: terminal && variable("NO_COLOR").is_empty(),
            ..Self::nothing()
        }
    }

    /// Shows no scene, and texts without colour.
    pub fn nothing() -> Self {
        let now = Instant::now();
        Self {
            look: Look::Nothing,
            tinted: false,
            begun: now,
            next: now,
        }
    }

    /// Shows no scene from now on.
    pub fn close(&mut self) {
        self.look = Look::Nothing;
    }

    /// Real time since the beginning.
    pub fn real(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether it is time to show something.
    pub fn due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Shows the scene.
    ///
    /// # Errors
    /// The terminal's.
    pub fn show(&mut self, scene: &Scene<'_>) -> Result<()> {
        match &mut self.look {
            Look::Picture {
                size: (columns, rows),
                drawn,
            } => {
                self.next = Instant::now() + FRAME;
                let lines = picture(scene, *columns, ROWS.min(*rows - 1));
                draw(drawn, &lines, self.tinted)
            }
            Look::Plain { told } => {
                self.next = Instant::now() + LINE;
                *told = tell(scene, *told)?;
                match scene.line.as_str() {
                    "" => Ok(()),
                    line => writeln!(stdout(), "  {line}"),
                }
            }
            Look::Nothing => {
                self.next = Instant::now() + LINE;
                Ok(())
            }
        }
    }

    /// Shows the scene for the last time, with all its chapters.
    ///
    /// # Errors
    /// The terminal's.
    pub fn end(&mut self, scene: &Scene<'_>) -> Result<()> {
        let shown = match &mut self.look {
            Look::Picture {
                size: (columns, _),
                drawn,
            } => draw(drawn, &picture(scene, *columns, usize::MAX), self.tinted),
            Look::Plain { told } => tell(scene, *told).map(|_| ()),
            Look::Nothing => Ok(()),
        };
        self.close();
        shown
    }

    /// A paragraph.
    pub fn say(&self, text: &str) {
        wrap(text, TEXT).iter().for_each(|line| println!("{line}"));
    }

    /// A title, after an empty line.
    pub fn title(&self, tint: Tint, text: &str) {
        println!("\n{}", Line::of(tint, text).text(self.tinted));
    }

    /// A line of a list.
    pub fn item(&self, text: &str) {
        let mut mark = '-';
        for line in wrap(text, TEXT - 4) {
            println!("  {mark} {line}");
            mark = ' ';
        }
    }

    /// What is known of something.
    pub fn fact(&self, name: &str, text: &str) {
        let mut name = name;
        for line in wrap(text, TEXT - 22) {
            println!("  {name:<19} {line}");
            name = "";
        }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

/// Columns and rows of the terminal. Asked of `stty`, as asking the kernel takes unsafe code or a crate that takes
/// longer to build than all of this.
fn size() -> Option<(usize, usize)> {
    let terminal = File::open("/dev/tty").ok()?;
    let told = Command::new("stty").arg("size").stdin(terminal).output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (rows, columns) = told.trim().split_once(' ')?;
    Some((columns.parse().ok()?, rows.parse().ok()?))
}

/// Draws the lines over those drawn before. Lines that are too long are cut by the terminal.
fn draw(drawn: &mut usize, lines: &[Line], tinted: bool) -> Result<()> {
    let mut text = String::from("\x1b[?7l");
    if *drawn > 0 {
        text += &format!("\x1b[{drawn}A");
    }
    for line in lines {
        text += &line.text(tinted);
        text += "\x1b[K\n";
    }
    text += "\x1b[J\x1b[?7h";
    *drawn = lines.len();
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Tells of chapters that have begun or ended since; returns how much is told.
fn tell(scene: &Scene<'_>, told: usize) -> Result<usize> {
    let mut out = stdout().lock();
    // Each chapter is told twice: what begins, and what came of it.
    let mut next = 0;
    for (index, chapter) in scene.chapters.iter().enumerate() {
        next += 1;
        if next > told {
            let (nth, all) = (index + 1, scene.all);
            writeln!(out, "{nth}/{all} {}: {}", chapter.name, chapter.story)?;
        }
        let Some(outcome) = &chapter.outcome else { break };
        next += 1;
        if next > told {
            let took = chapter.took.as_secs_f64();
            writeln!(out, "    {outcome} ({took:.1} {})", scene.seconds)?;
        }
    }
    Ok(told.max(next))
}
