//! Waiting for a condition with a deadline. A sleep alone never proves anything; a timeout here says what was
//! awaited and what was seen last.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

/// How often the condition is asked at first; the pause doubles up to [`SLOWEST`].
const FIRST: Duration = Duration::from_millis(20);
const SLOWEST: Duration = Duration::from_millis(250);

/// The answer of one look at a condition: the awaited value, or what was seen instead.
pub trait Observation {
    /// What the wait is for.
    type Value;

    /// The value, or a description of what was seen.
    ///
    /// # Errors
    /// The description, when the condition does not hold yet.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Observation for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("not yet".to_owned()) }
    }
}

impl<T> Observation for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".to_owned())
    }
}

/// An error is "not yet", so that `?` may be used on API calls while the API server is away.
impl<T, E: fmt::Display> Observation for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:#}"))
    }
}

/// Asks `look` until it gives a value.
///
/// `look` answers with a `bool`, an `Option<T>`, or a `Result<T, E>` whose error describes what was seen.
///
/// # Errors
/// After `deadline`: names `what` and the last observation. A look that hangs is cut off at the deadline.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
/// use testbed::real::wait;
///
/// let mut seen = 0;
/// let three = wait::until(Duration::from_secs(1), "three looks", async || {
///     seen += 1;
///     if seen == 3 { Ok(seen) } else { Err(format!("{seen} looks")) }
/// });
/// assert_eq!(three.await.unwrap(), 3);
/// # }
/// ```
pub async fn until<O: Observation>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> O,
) -> Result<O::Value> {
    let end = Instant::now() + deadline;
    let mut pause = FIRST;
    let mut last = "no answer".to_owned();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, look()).await {
            Ok(seen) => match seen.outcome() {
                Ok(value) => return Ok(value),
                Err(seen) => last = seen,
            },
            Err(_) => last = format!("{last} (the last look was cut off)"),
        }
        if Instant::now() + pause > end {
            return Err(anyhow!("waited {deadline:?} for {what}; last seen: {last}"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(SLOWEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn timeout_names_the_condition_and_the_last_observation() {
        let waited = until(Duration::from_millis(50), "five nodes", async || {
            Err::<(), _>("3 of 5")
        });
        let error = waited.await.unwrap_err().to_string();
        assert!(
            error.contains("five nodes") && error.contains("3 of 5"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn hanging_look_is_cut_off_at_the_deadline() {
        let waited = until(
            Duration::from_millis(50),
            "an answer",
            std::future::pending::<bool>,
        );
        let cut = tokio::time::timeout(Duration::from_secs(5), waited).await;
        assert!(
            cut.expect("returns by itself")
                .unwrap_err()
                .to_string()
                .contains("an answer")
        );
    }
}
