//! A line of differently tinted parts.

/// How a part is marked: the parameters of the terminal's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tint(&'static str);

impl Tint {
    /// As it is.
    pub const PLAIN: Self = Self("");
    /// Bold.
    pub const STRONG: Self = Self("1");
    /// Grey.
    pub const DIM: Self = Self("90");
    /// Red.
    pub const RED: Self = Self("31");
    /// Green.
    pub const GREEN: Self = Self("32");
    /// Yellow.
    pub const YELLOW: Self = Self("33");
    /// Blue.
    pub const BLUE: Self = Self("34");
    /// Magenta.
    pub const MAGENTA: Self = Self("35");
    /// Cyan.
    pub const CYAN: Self = Self("36");
    /// Bold and cyan.
    pub const NAME: Self = Self("1;36");
    /// Bold and green.
    pub const GOOD: Self = Self("1;32");
    /// Bold and red.
    pub const BAD: Self = Self("1;31");
}

/// A line of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Tint, String)>);

impl Line {
    /// A line with one part.
    pub fn of(tint: Tint, text: impl Into<String>) -> Self {
        Self::default().and(tint, text)
    }

    /// With another part.
    #[must_use]
    pub fn and(mut self, tint: Tint, text: impl Into<String>) -> Self {
        self.0.push((tint, text.into()));
        self
    }

    /// Columns that it takes.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// As it is written, with codes if `tinted`.
    pub(super) fn text(&self, tinted: bool) -> String {
        let part = |(Tint(code), text): &(Tint, String)| match tinted && !code.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.clone(),
        };
        self.0.iter().map(part).collect()
    }
}
