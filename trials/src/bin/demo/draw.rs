//! The live view: one picture of a [`Scene`], at most 100 columns wide.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Sparkline},
};

use crate::{
    board::{BUCKET, Condition, OrderCounts, ShardCounts},
    fleet::ORDERS,
    plot::CHAPTERS,
    screen::{Scene, clock, grouped},
};

/// Greatest width of the view.
const WIDTH: u16 = 100;
/// Columns of what stands before a row.
const LABEL: usize = 11;
/// Columns of an Order's bar.
const BAR: usize = 36;
/// A full block of trouble is this part of a shard.
const TROUBLE: u32 = 8;
/// An eighth to a whole block.
const BLOCKS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// How things are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Palette {
    colored: bool,
}

impl Palette {
    pub(crate) fn new(colored: bool) -> Self {
        Self { colored }
    }

    fn color(self, color: Color) -> Style {
        if self.colored {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }

    fn dim(self) -> Style {
        self.color(Color::DarkGray)
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn condition(self, condition: Condition) -> Style {
        self.color(match condition {
            Condition::Ready => Color::Green,
            Condition::Tainted => Color::Magenta,
            Condition::Cordoned => Color::Blue,
            Condition::NotReady => Color::Red,
        })
    }
}

/// Rows from the top down, as long as there are any.
struct Rows<'f, 'a> {
    frame: &'f mut Frame<'a>,
    left: Rect,
    /// Whether empty rows fit in.
    roomy: bool,
}

impl Rows<'_, '_> {
    fn take(&mut self, height: u16) -> Rect {
        let height = height.min(self.left.height);
        let area = Rect { height, ..self.left };
        self.left.y += height;
        self.left.height -= height;
        area
    }

    fn line(&mut self, line: Line<'_>) {
        let area = self.take(1);
        self.frame.render_widget(Paragraph::new(line), area);
    }

    fn gap(&mut self) {
        if self.roomy {
            self.take(1);
        }
    }
}

/// Draws the scene; `speed` is that of virtual time, `real` how long it has taken.
pub(crate) fn draw(frame: &mut Frame<'_>, scene: &Scene<'_>, palette: Palette, speed: f64, real: Duration) {
    let area = frame.area();
    let left = Rect {
        width: area.width.min(WIDTH),
        ..area
    };
    let roomy = area.height >= 31;
    let mut rows = Rows { frame, left, roomy };
    heading(&mut rows, scene, palette, speed, real);
    rows.gap();
    nodes(&mut rows, scene, palette);
    rows.gap();
    held(&mut rows, scene, palette);
    rows.gap();
    for (name, counts) in ORDERS.iter().zip(&scene.counts.orders) {
        rows.line(order(name, counts, palette));
    }
    rows.gap();
    let height = if roomy { 3 } else { 2 };
    writes(&mut rows, scene, palette, height);
    rows.gap();
    queue(&mut rows, scene, palette, height - 1);
    rows.gap();
    let over = scene.chapters.iter().filter(|chapter| chapter.outcome.is_some());
    let room = usize::from(rows.left.height);
    let skipped = over.clone().count().saturating_sub(room);
    for chapter in over.skip(skipped) {
        let outcome = chapter.outcome.clone().unwrap_or_default();
        rows.line(Line::from(vec![
            Span::styled("✓ ", palette.color(Color::Green)),
            Span::styled(format!("{:<11}", chapter.name), palette.strong()),
            Span::raw(format!("{:>6.1} s  ", chapter.took.as_secs_f64())),
            Span::raw(outcome),
        ]));
    }
}

fn heading(rows: &mut Rows<'_, '_>, scene: &Scene<'_>, palette: Palette, speed: f64, real: Duration) {
    let seed = scene.settings.seed;
    let nodes = grouped(scene.settings.nodes);
    let title = format!(" on {nodes} simulated nodes, seed {seed}");
    let (time, real) = (clock(scene.elapsed), real.as_secs_f64());
    let clock = format!("virtual {time}   {speed:>4.1} x real   {real:>4.1} s");
    let width = usize::from(rows.left.width);
    let korder = match scene.alive {
        true => Span::styled("korder", palette.strong().patch(palette.color(Color::Cyan))),
        false => Span::styled(
            "korder (killed)",
            palette.strong().patch(palette.color(Color::Red)),
        ),
    };
    let pad = width.saturating_sub(korder.width() + title.len() + clock.len());
    rows.line(Line::from(vec![
        korder,
        Span::raw(title),
        Span::raw(" ".repeat(pad)),
        Span::styled(clock, palette.strong()),
    ]));
    if let Some(chapter) = scene.chapters.last() {
        let nth = scene.chapters.len();
        rows.line(Line::from(vec![
            Span::styled(
                format!("{nth}/{CHAPTERS} {}  ", chapter.name),
                palette.color(Color::Yellow),
            ),
            Span::raw(chapter.story.as_str()),
        ]));
    }
}

/// A strip with a column for each shard, one row for each condition.
fn nodes(rows: &mut Rows<'_, '_>, scene: &Scene<'_>, palette: Palette) {
    let shards = &scene.counts.shards;
    let ruler = (0..shards.len()).step_by(8).map(|shard| format!("{shard:<8}"));
    rows.line(Line::from(vec![
        Span::styled(format!("{:<LABEL$}", "Nodes"), palette.strong()),
        Span::styled(ruler.collect::<String>(), palette.dim()),
        Span::styled("shard", palette.dim()),
    ]));
    let usual = usual(shards);
    let row = |condition: Condition, full: u32| {
        let level = |shard: &ShardCounts| eighths(shard.nodes[condition as usize].into(), full.into());
        (strip(shards, level), condition)
    };
    let trouble = usual.div_ceil(TROUBLE);
    let conditions = [
        ("ready", row(Condition::Ready, usual)),
        ("tainted", row(Condition::Tainted, trouble)),
        ("cordoned", row(Condition::Cordoned, trouble)),
        ("not ready", row(Condition::NotReady, trouble)),
    ];
    for (label, (strip, condition)) in conditions {
        let count = scene.counts.nodes(condition);
        rows.line(Line::from(vec![
            Span::raw(format!("{label:<LABEL$}")),
            Span::styled(strip, palette.condition(condition)),
            Span::raw(format!("{:>9}", grouped(count))),
        ]));
    }
}

/// How much of each shard's Tickets are Reserved.
fn held(rows: &mut Rows<'_, '_>, scene: &Scene<'_>, palette: Palette) {
    let shards = &scene.counts.shards;
    let full = shards
        .iter()
        .map(|shard| shard.tickets)
        .max()
        .unwrap_or_default()
        .max(1);
    let sixteenths = |shard: &ShardCounts| (shard.reserved * 16).div_ceil(full) as usize;
    let upper = strip(shards, |shard| sixteenths(shard).saturating_sub(8));
    let lower = strip(shards, |shard| sixteenths(shard).min(8));
    let reserved = scene.counts.reserved();
    rows.line(Line::from(vec![
        Span::styled(format!("{:<LABEL$}", "Tickets"), palette.strong()),
        Span::styled(upper, palette.color(Color::Cyan)),
    ]));
    rows.line(Line::from(vec![
        Span::raw(format!("{:<LABEL$}", "Reserved")),
        Span::styled(lower, palette.color(Color::Cyan)),
        Span::raw(format!("{:>9}", grouped(reserved))),
    ]));
}

fn order(name: &str, counts: &OrderCounts, palette: Palette) -> Line<'static> {
    let OrderCounts {
        pending, reserved, ..
    } = *counts;
    let all = counts.all();
    let columns = |count: u64| (count as usize * BAR).checked_div(all as usize).unwrap_or(0);
    let full = columns(reserved);
    let begun = columns(reserved + pending) - full;
    let waiting = match pending {
        0 => String::new(),
        _ => format!("  {} Pending", grouped(pending)),
    };
    Line::from(vec![
        Span::raw(format!("{name:<27}")),
        Span::styled("▆".repeat(full), palette.color(Color::Cyan)),
        Span::styled("▃".repeat(begun), palette.color(Color::Yellow)),
        Span::styled("·".repeat(BAR - full - begun), palette.dim()),
        Span::raw(format!("{:>8} of {}", grouped(reserved), grouped(all))),
        Span::styled(waiting, palette.color(Color::Yellow)),
    ])
}

fn writes(rows: &mut Rows<'_, '_>, scene: &Scene<'_>, palette: Palette, height: u16) {
    let bucket = (scene.elapsed.as_millis() / BUCKET.as_millis()) as usize;
    let per_second = |bucket: usize| {
        let count = scene.counts.writes.get(bucket).copied().unwrap_or_default();
        u64::from(count) * 1000 / BUCKET.as_millis() as u64
    };
    let data: Vec<u64> = (0..bucket).map(per_second).collect();
    spark(
        rows,
        ["Writes", "a second"],
        &data,
        palette.color(Color::Green),
        palette,
        height,
    );
}

fn queue(rows: &mut Rows<'_, '_>, scene: &Scene<'_>, palette: Palette, height: u16) {
    spark(
        rows,
        ["Queue", ""],
        scene.queue,
        palette.color(Color::Yellow),
        palette,
        height,
    );
}

/// The last 64 of the data, as high as their greatest.
fn spark(
    rows: &mut Rows<'_, '_>,
    label: [&str; 2],
    data: &[u64],
    style: Style,
    palette: Palette,
    height: u16,
) {
    let area = rows.take(height);
    let columns = (area.width as usize).saturating_sub(LABEL).min(64);
    let shown = &data[data.len().saturating_sub(columns)..];
    let most = shown.iter().copied().max().unwrap_or_default();
    let last = shown.last().copied().unwrap_or_default();
    let mut labels = vec![Line::styled(label[0].to_owned(), palette.strong())];
    labels.push(Line::raw(label[1].to_owned()));
    let left = Rect {
        width: area.width.min(LABEL as u16),
        ..area
    };
    rows.frame.render_widget(Paragraph::new(labels), left);
    let middle = Rect {
        x: area.x + left.width,
        width: columns as u16,
        ..area
    };
    // Empty until there is enough, so that the present is always at the right.
    let mut padded = vec![0; columns - shown.len()];
    padded.extend_from_slice(shown);
    let sparkline = Sparkline::default().data(padded).max(most.max(1)).style(style);
    rows.frame.render_widget(sparkline, middle);
    let right = Rect {
        x: middle.right(),
        width: area.right().saturating_sub(middle.right()),
        ..area
    };
    let mut numbers = vec![Line::styled(format!("{:>9} most", grouped(most)), palette.dim())];
    let now = Line::raw(format!("{:>9} now", grouped(last)));
    if height > 1 {
        numbers.push(now);
    } else {
        numbers = vec![now];
    }
    rows.frame.render_widget(Paragraph::new(numbers), right);
}

/// Nodes of a usual shard.
fn usual(shards: &[ShardCounts]) -> u32 {
    let totals = shards.iter().map(|shard| shard.nodes.iter().sum::<u32>());
    totals.max().unwrap_or_default().max(1)
}

fn eighths(count: u64, full: u64) -> usize {
    (count * 8).div_ceil(full.max(1)).min(8) as usize
}

fn strip(shards: &[ShardCounts], level: impl Fn(&ShardCounts) -> usize) -> String {
    shards.iter().map(|shard| BLOCKS[level(shard)]).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{
        fleet,
        gauges::Gauges,
        screen::Screen,
        stage::{Settings, Stage},
    };

    fn text(width: u16, height: u16) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        runtime.block_on(async {
            let settings = Settings { nodes: 640, seed: 1 };
            let stage = Stage::set(settings, Gauges::default(), Screen::nothing()).unwrap();
            (0..640).for_each(|n| stage.nodes.join(&fleet::node(n)));
            let scene = Scene {
                settings,
                elapsed: Duration::from_secs(61),
                alive: false,
                counts: &stage.board.counts(),
                queue: &[0, 5],
                chapters: &stage.chapters,
            };
            let palette = Palette::new(false);
            terminal
                .draw(|frame| draw(frame, &scene, palette, 2.0, Duration::from_secs(9)))
                .unwrap();
        });
        terminal.backend().to_string()
    }

    #[test]
    fn the_view_says_what_there_is() {
        let text = text(100, 33);
        for part in [
            "640 simulated nodes",
            "virtual 01:01",
            "ready",
            "      640",
            "gpu-node-buffer",
            "5 now",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn small_and_odd_terminals_are_no_reason_to_panic() {
        for (width, height) in [(72, 20), (1, 1), (12, 40), (300, 5)] {
            text(width, height);
        }
    }
}
