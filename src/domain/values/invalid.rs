//! One thing that is wrong with what a user wrote: where, what, and what to write instead.

use std::fmt;

/// One problem of an Order's spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Invalid {
    /// The field as in the YAML, such as `spec.template.spec.duration`.
    pub(crate) field: String,
    /// What is wrong with it, such as `"24x" is not a Go duration`.
    pub(crate) problem: String,
    /// What to write instead, such as `use h, m and s, such as 24h`.
    pub(crate) remedy: String,
}

impl Invalid {
    /// A problem of `field`.
    pub(crate) fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.field, self.problem, self.remedy)
    }
}

impl std::error::Error for Invalid {}
