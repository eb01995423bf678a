//! The picture of a [`Scene`], at most 100 columns wide.

use std::time::Duration;

use super::{
    line::{Line, Tint},
    text::grouped,
};

/// Greatest width of the picture.
const WIDTH: usize = 100;
/// Columns of what stands before a row.
pub(super) const LABEL: usize = 11;
/// Columns of an Order's bar, and of a curve.
const BAR: usize = 36;
const CURVE: usize = 64;
/// With so many rows, empty ones fit in.
const ROOMY: usize = 31;
/// An eighth to a whole block.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A part of the story.
#[derive(Clone, Debug, PartialEq)]
pub struct Chapter {
    /// In a word or two.
    pub name: &'static str,
    /// What happens, and why.
    pub story: String,
    /// What it came to, once it is over.
    pub outcome: Option<String>,
    /// How long that took.
    pub took: Duration,
}

/// The Tickets of one Order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bar {
    /// The Order's name.
    pub name: &'static str,
    /// Tickets that hold their room.
    pub reserved: u64,
    /// Tickets that do not yet.
    pub pending: u64,
    /// Nodes that are to have one.
    pub all: u64,
}

/// How something went up and down.
pub struct Spark {
    /// One word a row.
    pub label: [&'static str; 2],
    /// The present is last.
    pub data: Vec<u64>,
    /// What it is drawn in.
    pub tint: Tint,
    /// Rows, where there is room.
    pub rows: usize,
}

/// What is to be shown.
pub struct Scene<'a> {
    /// What korder runs on.
    pub title: String,
    /// What time it is.
    pub clock: String,
    /// Whether korder runs.
    pub alive: bool,
    /// The story so far.
    pub chapters: &'a [Chapter],
    /// How many chapters there will be.
    pub all: usize,
    /// What they are measured in: `s`, or `s virtual`.
    pub seconds: &'static str,
    /// Rows that belong together, before the Orders.
    pub strips: Vec<Vec<Line>>,
    /// The Orders.
    pub bars: Vec<Bar>,
    /// After them.
    pub sparks: Vec<Spark>,
    /// How it is, in plain text.
    pub line: String,
}

/// A block for each level, from 0 to 8.
pub fn strip(levels: impl Iterator<Item = u64>) -> String {
    levels.map(|level| BLOCKS[level.min(8) as usize]).collect()
}

/// The picture in so many columns and rows.
pub(super) fn picture(scene: &Scene<'_>, columns: usize, rows: usize) -> Vec<Line> {
    let roomy = rows >= ROOMY;
    let mut groups = vec![heading(scene, columns.min(WIDTH))];
    groups.extend(scene.strips.iter().cloned());
    groups.push(scene.bars.iter().map(order).collect());
    let height = |spark: &Spark| spark.rows - usize::from(!roomy);
    groups.extend(scene.sparks.iter().map(|spark| curve(spark, height(spark))));
    let mut lines = Vec::new();
    for group in groups {
        lines.extend(group);
        lines.extend(roomy.then(Line::default));
    }
    lines.truncate(rows);
    let over = scene.chapters.iter().filter(|chapter| chapter.outcome.is_some());
    let skipped = over.clone().count().saturating_sub(rows - lines.len());
    let name = scene.chapters.iter().map(|chapter| chapter.name.len()).max();
    lines.extend(over.skip(skipped).map(|chapter| told(chapter, name.unwrap_or(0))));
    lines
}

fn heading(scene: &Scene<'_>, width: usize) -> Vec<Line> {
    let korder = match scene.alive {
        true => Line::of(Tint::NAME, "korder"),
        false => Line::of(Tint::BAD, "korder (down)"),
    };
    let used = korder.width() + 1 + scene.title.chars().count() + scene.clock.chars().count();
    let pad = " ".repeat(width.saturating_sub(used));
    let first = korder
        .and(Tint::PLAIN, format!(" {}{pad}", scene.title))
        .and(Tint::STRONG, &scene.clock);
    let chapter = scene.chapters.last().map(|chapter| {
        let nth = scene.chapters.len();
        let name = format!("{nth}/{} {}  ", scene.all, chapter.name);
        Line::of(Tint::YELLOW, name).and(Tint::PLAIN, &chapter.story)
    });
    vec![first, chapter.unwrap_or_default()]
}

fn order(bar: &Bar) -> Line {
    let columns = |count: u64| {
        (count * BAR as u64)
            .checked_div(bar.all)
            .unwrap_or(0)
            .min(BAR as u64) as usize
    };
    let full = columns(bar.reserved);
    let begun = columns(bar.reserved + bar.pending) - full;
    let waiting = match bar.pending {
        0 => String::new(),
        pending => format!("  {} Pending", grouped(pending)),
    };
    Line::of(Tint::PLAIN, format!("{:<27}", bar.name))
        .and(Tint::CYAN, "▆".repeat(full))
        .and(Tint::YELLOW, "▃".repeat(begun))
        .and(Tint::DIM, "·".repeat(BAR - full - begun))
        .and(
            Tint::PLAIN,
            format!("{:>8} of {}", grouped(bar.reserved), grouped(bar.all)),
        )
        .and(Tint::YELLOW, waiting)
}

/// The last of the data, as high as their greatest.
fn curve(spark: &Spark, rows: usize) -> Vec<Line> {
    let shown = &spark.data[spark.data.len().saturating_sub(CURVE)..];
    let most = shown.iter().copied().max().unwrap_or_default();
    let now = shown.last().copied().unwrap_or_default();
    let row = |row: usize| {
        let below = 8 * (rows - 1 - row) as u64;
        let level = |value: &u64| {
            (value * 8 * rows as u64)
                .div_ceil(most.max(1))
                .saturating_sub(below)
        };
        let blocks = strip(shown.iter().map(level));
        let number = match (rows - row, row) {
            (1, _) => format!("{:>9} now", grouped(now)),
            (_, 0) => format!("{:>9} most", grouped(most)),
            _ => String::new(),
        };
        let label = spark.label.get(row).copied().unwrap_or_default();
        // The present is always at the right.
        Line::of(
            if row == 0 { Tint::STRONG } else { Tint::PLAIN },
            format!("{label:<LABEL$}"),
        )
        .and(spark.tint, format!("{blocks:>CURVE$}"))
        .and(Tint::PLAIN, number)
    };
    (0..rows).map(row).collect()
}

fn told(chapter: &Chapter, name: usize) -> Line {
    Line::of(Tint::GREEN, "✓ ")
        .and(Tint::STRONG, format!("{:<name$}", chapter.name))
        .and(Tint::PLAIN, format!("{:>7.1} s  ", chapter.took.as_secs_f64()))
        .and(Tint::PLAIN, chapter.outcome.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chapter(name: &'static str, outcome: Option<&str>) -> Chapter {
        Chapter {
            name,
            story: format!("the story of {name}"),
            outcome: outcome.map(str::to_owned),
            took: Duration::from_millis(2_500),
        }
    }

    fn text(columns: usize, rows: usize) -> String {
        let chapters = [
            chapter("One", Some("done")),
            chapter("Second", Some("well")),
            chapter("3rd", None),
        ];
        let bar = Bar {
            name: "some-order",
            reserved: 1000,
            pending: 500,
            all: 2000,
        };
        let scene = Scene {
            title: "on 7 nodes".to_owned(),
            clock: "9.0 s".to_owned(),
            alive: true,
            chapters: &chapters,
            all: 5,
            seconds: "s",
            strips: vec![vec![Line::of(Tint::RED, strip([0, 4, 9].into_iter()))]],
            bars: vec![bar],
            sparks: vec![Spark {
                label: ["Writes", "a second"],
                data: vec![1, 16, 8],
                tint: Tint::GREEN,
                rows: 2,
            }],
            line: String::new(),
        };
        let lines = picture(&scene, columns, rows);
        let lines = lines.iter().map(|line| line.text(false).trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_scene_is_shown_from_title_to_chapters() {
        let gap = " ".repeat(26);
        let curve = " ".repeat(CURVE - 3);
        let expected = format!(
            "korder on 7 nodes{gap}  9.0 s
3/5 3rd  the story of 3rd

 ▄█

some-order                 {}{}{}   1,000 of 2,000  500 Pending

Writes     {curve} █        16 most
a second   {curve}▁██        8 now

✓ One       2.5 s  done
✓ Second    2.5 s  well",
            "▆".repeat(18),
            "▃".repeat(9),
            "·".repeat(9),
        );
        assert_eq!(text(50, 40), expected);
    }

    #[test]
    fn a_small_terminal_shows_what_fits() {
        assert!(text(72, 20).ends_with("well"));
        assert_eq!(text(72, 6).lines().count(), 6);
        assert!(text(72, 6).ends_with("✓ Second    2.5 s  well"));
        assert_eq!(text(1, 1).lines().count(), 1);
    }
}
