//! The tasks of a process, which end together.

use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::pause::Pause;

/// The tasks of the process; none may end before `quit`.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<&'static str>,
    quit: CancellationToken,
    pause: Pause,
}

impl Tasks {
    /// Tasks that stand still while `pause` says so.
    pub fn stoppable(pause: Pause) -> Self {
        Self {
            pause,
            ..Self::default()
        }
    }

    /// What stops all tasks for a while.
    pub fn pause(&self) -> &Pause {
        &self.pause
    }

    /// Asks all tasks to end when cancelled.
    pub fn quit(&self) -> &CancellationToken {
        &self.quit
    }

    /// Runs a task until it ends by itself or this is dropped.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.pause.pass(task);
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// Returns when a task has ended, with its name.
    pub async fn ended(&mut self) -> &'static str {
        match self.set.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(_)) => "one that panicked",
            None => "all",
        }
    }
}
