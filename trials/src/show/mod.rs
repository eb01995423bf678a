//! What a demo shows, and in which words: a picture in a terminal, lines of plain text elsewhere, nothing in
//! tests; in the end a summary. Looks at the real clock, and changes nothing but the screen.

mod line;
mod picture;
mod screen;
mod summary;
mod text;

pub use line::{Line, Tint};
pub use picture::{Bar, Chapter, Scene, Spark, strip};
pub use screen::Screen;
pub use summary::{Summary, Writes};
pub use text::{clock, grouped};
