//! The watch of Shard objects: what the owners of all shards say of them.

use std::sync::Arc;

use kube::{Api, Client, runtime::watcher};

use super::router::Router;
use crate::{
    controller::counts::rollup::Reports,
    domain::values::{ids::Namespace, shard::ShardCount, shard_object::ShardObject},
    env::clock::Clock,
    watch::{
        relist::{Brake, Change, Relist},
        shard::{ShardView, SlimShard},
        stream::follow,
    },
};

/// Pages of counts per request: each may have 100 KB.
const PAGE: u32 = 50;

/// Follows the Shard objects of all replicas for ever.
pub(crate) async fn follow_shards(
    client: Client,
    namespace: Namespace,
    shards: ShardCount,
    reports: Arc<Reports>,
    router: Arc<Router>,
    clock: Clock,
) {
    let objects: Api<SlimShard> = Api::namespaced(client, namespace.as_str());
    let config = watcher::Config::default().page_size(PAGE);
    let read = move |object: SlimShard| {
        let (object, view) = object.view(shards)?;
        Some(((object, view.version.uid.clone()), (object, view)))
    };
    let out = |change: Change<(ShardObject, ShardView), _>| {
        if let Change::Apply((ShardObject { shard, page: None }, view)) = &change {
            router.told(*shard, &view.totals);
        }
        reports.see(change, clock.mono());
    };
    follow::<_, String, _, _>("Shard", objects, config, Relist::shared(Brake::Off), read, out).await;
}
