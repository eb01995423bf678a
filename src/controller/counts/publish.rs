//! The publisher: writes the Shard objects of own shards when they are due.
//!
//! What is due is decided by `shard_objects`; here it is only sent.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::rollup::{Publication, Reports, UnreadPages};
use crate::{
    domain::values::{ids::Namespace, shard_object::ShardObject},
    env::clock::Clock,
    watch::shard::ShardView,
    write::{Pending, Writer, shard::ShardWriteResult},
};

/// Writes of Shard objects in flight.
const WRITES: usize = 4;
/// Nothing is due sooner after it has changed, so nothing is missed by looking this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pages, and those that a GET has shown; none if that cannot be told.
type Read = (UnreadPages, Option<Vec<(ShardObject, ShardView)>>);
type Written = (Publication, ShardWriteResult);

/// What the publisher needs.
pub(crate) struct Publisher {
    /// Where the counts come from.
    pub(crate) reports: Arc<Reports>,
    /// What writes.
    pub(crate) writer: Writer,
    /// What counts the writes that wait.
    pub(crate) pending: Arc<Pending>,
    /// Where Shard objects live.
    pub(crate) namespace: Namespace,
    /// The name of this replica.
    pub(crate) replica: String,
    /// The time.
    pub(crate) clock: Clock,
}

impl Publisher {
    /// Works until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (mut reads, mut writes) = (JoinSet::new(), JoinSet::new());
        loop {
            let now = self.clock.mono();
            for unread in self.reports.unread_pages() {
                reads.spawn(self.read(unread));
            }
            let waiting = self.pending.waiting();
            let waits = |shard| waiting.get(&shard).copied().unwrap_or(0);
            let (due, wake) = self.reports.publications(&self.replica, waits, now);
            self.reports.measure();
            for publication in due {
                while writes.len() >= WRITES {
                    self.has_written(writes.join_next().await);
                }
                writes.spawn(self.write(publication));
            }
            let look = now.after(LOOK_EVERY);
            tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => return,
                Some(ended) = reads.join_next() => self.has_read(ended),
                ended = writes.join_next(), if !writes.is_empty() => self.has_written(ended),
                () = self.clock.sleep_until(Some(wake.map_or(look, |wake| wake.min(look)))) => {}
            }
        }
    }

    fn read(&self, unread: UnreadPages) -> impl Future<Output = Read> + Send + use<> {
        let (writer, namespace, clock) = (self.writer.clone(), self.namespace.clone(), self.clock.clone());
        async move {
            let pages = writer.shard_objects(&namespace, &unread.pages).await;
            if pages.is_none() {
                clock.sleep_until(Some(clock.mono().after(LOOK_EVERY))).await;
            }
            (unread, pages)
        }
    }

    fn has_read(&self, ended: Result<Read, JoinError>) {
        let (unread, pages) = ended.expect("a read neither panics nor is cancelled");
        self.reports.pages_read(&unread, pages);
    }

    fn write(&self, publication: Publication) -> impl Future<Output = Written> + Send + use<> {
        let (writer, namespace, clock) = (self.writer.clone(), self.namespace.clone(), self.clock.clone());
        async move {
            let write = &publication.write;
            let (version, server) = (write.version.as_ref(), clock.now().server);
            let result = writer
                .shard_object(&namespace, write.object, version, &write.content, server)
                .await;
            (publication, result)
        }
    }

    fn has_written(&self, ended: Option<Result<Written, JoinError>>) {
        if let Some(ended) = ended {
            let (publication, result) = ended.expect("a write neither panics nor is cancelled");
            self.reports.published(publication, result, self.clock.mono());
        }
    }
}
