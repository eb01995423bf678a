//! What happened in a run, in order: one line per change, request, answer and delivery.
//!
//! Two runs of one seed have the same lines. Only a digest and the counts are kept unless asked.

use std::{fmt::Write, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::api::Change;
use crate::object::at;

/// The journal of one run; clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug)]
struct Pages {
    digest: u64,
    lines: u64,
    keep: Keep,
    kept: String,
    line: String,
}

/// What is kept of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: for many runs of which only the verdict matters.
    Nothing,
    /// The digest and the number of lines.
    #[default]
    Digest,
    /// The lines, too.
    Lines,
}

/// FNV-1a's offset and prime.
const DIGEST: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0000_0100_0000_01b3);

impl Journal {
    /// An empty journal.
    pub fn new(keep: Keep) -> Self {
        let pages = Pages {
            digest: DIGEST.0,
            lines: 0,
            keep,
            kept: String::new(),
            line: String::new(),
        };
        Self {
            pages: Arc::new(Mutex::new(pages)),
        }
    }

    /// Adds a line.
    pub fn note(&self, at: Duration, what: std::fmt::Arguments<'_>) {
        let pages = &mut *self.pages.lock();
        if pages.keep == Keep::Nothing {
            return;
        }
        pages.line.clear();
        writeln!(pages.line, "{:>12.3} {what}", at.as_secs_f64()).expect("a string takes everything");
        for byte in pages.line.as_bytes() {
            pages.digest = (pages.digest ^ u64::from(*byte)).wrapping_mul(DIGEST.1);
        }
        pages.lines += 1;
        if pages.keep == Keep::Lines {
            pages.kept.push_str(&pages.line);
        }
    }

    /// Adds a committed change.
    pub fn change(&self, at: Duration, change: &Change) {
        self.note(
            at,
            format_args!(
                "{:>6} {:?} {}/{}/{} by {} {}",
                change.revision,
                change.kind,
                change.resource,
                change.namespace,
                change.name,
                change.by,
                Brief(change)
            ),
        );
    }

    /// A number that differs if any line does, and the number of lines.
    pub fn digest(&self) -> (u64, u64) {
        let pages = self.pages.lock();
        (pages.digest, pages.lines)
    }

    /// All lines, if they were kept.
    pub fn text(&self) -> String {
        self.pages.lock().kept.clone()
    }
}

/// What a reader of a journal wants to know of a change.
struct Brief<'a>(&'a Change);

impl std::fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let after = &self.0.after;
        let told = [
            ("phase", at(after, "/status/phase")),
            ("reason", at(after, "/status/reason")),
            ("node", at(after, "/spec/nodeName")),
            ("seq", at(after, "/spec/sequence")),
            ("deleting", at(after, "/metadata/deletionTimestamp")),
            ("unschedulable", at(after, "/spec/unschedulable")),
            ("paused", at(after, "/spec/paused")),
        ];
        for (name, value) in told {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                write!(f, "{name}={value} ")?;
            }
        }
        write!(
            f,
            "uid={}",
            at(after, "/metadata/uid").unwrap_or(&serde_json::Value::Null)
        )
    }
}
