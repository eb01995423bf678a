//! Lets a test stop a whole replica in the midst of what it does, and go on later, as SIGSTOP does.
//!
//! A replica that runs as usual has no pause, and its tasks are not wrapped.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;

/// A switch for all tasks of a replica; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pause {
    shared: Option<Arc<Mutex<State>>>,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    waiting: Vec<Waker>,
}

impl Pause {
    /// A switch that can be used.
    pub fn possible() -> Self {
        Self {
            shared: Some(Arc::default()),
        }
    }

    /// Nothing is done from now on.
    pub fn stop(&self) {
        if let Some(shared) = &self.shared {
            shared.lock().stopped = true;
        }
    }

    /// Goes on.
    pub fn resume(&self) {
        let Some(shared) = &self.shared else { return };
        let waiting = {
            let mut state = shared.lock();
            state.stopped = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// A task that stands still while it is stopped.
    pub fn pass(&self, task: impl Future<Output: Send> + Send + 'static) -> BoxFuture<'static, ()> {
        let inner = task.map(|_| ()).boxed();
        match &self.shared {
            None => inner,
            Some(shared) => Stoppable {
                shared: shared.clone(),
                inner,
            }
            .boxed(),
        }
    }
}

struct Stoppable {
    shared: Arc<Mutex<State>>,
    inner: BoxFuture<'static, ()>,
}

impl Future for Stoppable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        {
            let mut state = self.shared.lock();
            if state.stopped {
                state.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.inner.poll_unpin(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stopped_task_goes_on_where_it_was_and_finds_that_time_has_passed() {
        let (pause, count) = (Pause::possible(), Arc::new(Mutex::new(0)));
        let ticks = count.clone();
        let task = pause.pass(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                *ticks.lock() += 1;
            }
        });
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(task);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        pause.stop();
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(*count.lock(), 2);
        pause.resume();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(*count.lock(), 4);
    }
}
