//! What is shown while the demo runs: its chapters, and how far each Order is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use trials::show::{Bar, Chapter, Scene, Screen, clock, grouped};

use crate::rules::{COUNT, ORDERS};

/// The number of chapters.
const CHAPTERS: usize = 19;

/// The story so far.
pub(crate) struct Story {
    pub(crate) screen: Screen,
    nodes: usize,
    chapters: Vec<Chapter>,
    opened: Instant,
    bars: [Bar; COUNT],
}

impl Story {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            screen: Screen::new(),
            nodes,
            chapters: Vec::new(),
            opened: Instant::now(),
            bars: ORDERS.each_ref().map(|order| Bar {
                name: order.name,
                ..Bar::default()
            }),
        }
    }

    /// A chapter begins.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn open(&mut self, name: &'static str, story: &str) -> Result<()> {
        self.opened = Instant::now();
        self.chapters.push(Chapter {
            name,
            story: story.to_owned(),
            outcome: None,
            took: Duration::ZERO,
        });
        self.show("")
    }

    /// The chapter that began last is over.
    pub(crate) fn close(&mut self, outcome: impl Into<String>) {
        let chapter = self.chapters.last_mut().expect("a chapter has begun");
        chapter.outcome = Some(outcome.into());
        chapter.took = self.opened.elapsed();
    }

    /// How far each Order is: Tickets Reserved and Pending, and eligible nodes.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn progress(&mut self, orders: [[usize; 3]; COUNT]) -> Result<()> {
        for (bar, order) in self.bars.iter_mut().zip(orders) {
            [bar.reserved, bar.pending, bar.all] = order.map(|count| count as u64);
        }
        if !self.screen.due() {
            return Ok(());
        }
        let sum = |count: fn(&Bar) -> u64| grouped(self.bars.iter().map(count).sum::<u64>());
        let (reserved, all) = (sum(|bar| bar.reserved), sum(|bar| bar.all));
        let time = clock(self.screen.real());
        self.show(&format!("{time} Tickets: {reserved} of {all} Reserved"))
    }

    /// Shows everything for the last time.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.on_screen("", Screen::end)
    }

    fn show(&mut self, line: &str) -> Result<()> {
        self.on_screen(line, Screen::show)
    }

    fn on_screen(
        &mut self,
        line: &str,
        how: fn(&mut Screen, &Scene<'_>) -> std::io::Result<()>,
    ) -> Result<()> {
        let scene = Scene {
            title: format!("on a real control plane with {} kwok nodes", grouped(self.nodes)),
            clock: format!("{:.1} s", self.screen.real().as_secs_f64()),
            alive: true,
            chapters: &self.chapters,
            all: CHAPTERS,
            seconds: "s",
            strips: Vec::new(),
            bars: self.bars.to_vec(),
            sparks: Vec::new(),
            line: line.to_owned(),
        };
        how(&mut self.screen, &scene).context("showing the scene")
    }
}
