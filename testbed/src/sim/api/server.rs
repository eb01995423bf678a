//! The server: its state, and the calls that actors use instead of HTTP.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Change, Reply, User,
    kind::Kind,
    meta,
    status::{Result, bad_request, no_such_path},
    store::Store,
};

/// A simulated API server.
#[derive(Debug)]
pub struct ApiServer {
    pub(crate) store: Store,
    pub(crate) kinds: BTreeMap<Arc<str>, Arc<Kind>>,
    now: Timestamp,
    random: u64,
    pub(crate) sharded: bool,
    /// The uids of custom objects whose stored form lacks the default status; see [`Self::update`].
    pub(crate) bare: BTreeSet<String>,
}

impl ApiServer {
    /// A server with the namespaces and priority classes that every cluster has. `seed` decides uids and the
    /// suffixes of generated names.
    #[must_use]
    pub fn new(start: Timestamp, seed: u64) -> Self {
        let kinds = Kind::all_built_in()
            .into_iter()
            .map(|kind| (kind.plural.clone(), kind));
        let mut server = Self {
            store: Store::default(),
            kinds: kinds.collect(),
            now: start,
            random: seed,
            sharded: false,
            bare: BTreeSet::new(),
        };
        let system: User = "system:apiserver".into();
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = json!({ "metadata": { "name": name } });
            server.made(&system, "namespaces", namespace);
        }
        let classes = [
            (
                "system-node-critical",
                2_000_001_000,
                "Used for system critical pods that must not be moved from their current node.",
            ),
            (
                "system-cluster-critical",
                2_000_000_000,
                "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
            ),
        ];
        for (name, value, description) in classes {
            let class = json!({ "metadata": { "name": name }, "value": value, "description": description });
            server.made(&system, "priorityclasses", class);
        }
        server
    }

    fn made(&mut self, by: &User, resource: &str, object: Value) {
        let made = self.create(by, resource, "", object);
        assert!(made.is_ok(), "a fresh server takes what it begins with: {made:?}");
    }

    /// Registers a CustomResourceDefinition.
    ///
    /// # Panics
    /// On what it says that is not simulated.
    pub fn install(&mut self, crd: &Value) {
        let kind = Kind::of_crd(crd);
        self.kinds.insert(kind.plural.clone(), kind);
    }

    /// Whether lists and watches obey `shardSelector` (gate `ShardedListAndWatch`). Off at first.
    pub fn set_sharded(&mut self, sharded: bool) {
        self.sharded = sharded;
    }

    /// Sets the server's wall time.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// The server's wall time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.store.revision()
    }

    /// Every change with a greater revision, in order, of all resources.
    pub fn changes(&self, after: u64) -> impl Iterator<Item = &Arc<Change>> {
        self.store.changes(after)
    }

    /// Forgets changes up to and including a revision; older watches get 410.
    pub fn compact(&mut self, revision: u64) {
        self.store.compact(revision);
    }

    /// The last revision so long ago, as far as that is not forgotten.
    #[must_use]
    pub fn revision_before(&self, span: SignedDuration) -> u64 {
        let at = self.now().saturating_sub(span).unwrap_or(Timestamp::MIN);
        self.store.revision_at(at)
    }

    /// The revision up to which changes are forgotten.
    #[must_use]
    pub fn compacted(&self) -> u64 {
        self.store.compacted()
    }

    /// An object.
    #[must_use]
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.store.get(resource, namespace, name).cloned()
    }

    /// The objects of all namespaces, in key order.
    #[must_use]
    pub fn list(&self, resource: &str) -> Vec<Arc<Value>> {
        self.store.all(resource)
    }

    pub(crate) fn kind(&self, resource: &str) -> Result<Arc<Kind>> {
        self.kinds.get(resource).cloned().ok_or_else(no_such_path)
    }

    /// Creates an object.
    ///
    /// # Errors
    /// The `Status` that HTTP would answer.
    pub fn create(
        &mut self,
        by: &User,
        resource: &str,
        namespace: &str,
        object: Value,
    ) -> std::result::Result<Arc<Value>, Reply> {
        let kind = self.kind(resource)?;
        let object = kind.decoded(object)?;
        self.create_object(by, &kind, namespace, object)
    }

    /// Replaces an object, or one subresource of it.
    ///
    /// # Errors
    /// The `Status` that HTTP would answer.
    pub fn replace(
        &mut self,
        by: &User,
        resource: &str,
        subresource: Option<&str>,
        object: Value,
    ) -> std::result::Result<Arc<Value>, Reply> {
        let kind = self.kind(resource)?;
        let object = kind.decoded(object)?;
        let (namespace, name) = (
            meta::namespace(&object).to_owned(),
            meta::name(&object).to_owned(),
        );
        if name.is_empty() {
            return Err(bad_request("name must be provided"));
        }
        self.put_object(by, &kind, (&namespace, &name), subresource, object)
            .map(|(object, _)| object)
    }

    /// Applies a JSON merge patch.
    ///
    /// # Errors
    /// The `Status` that HTTP would answer.
    pub fn merge(
        &mut self,
        by: &User,
        resource: &str,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        patch: &Value,
    ) -> std::result::Result<Arc<Value>, Reply> {
        let kind = self.kind(resource)?;
        self.patch_object(by, &kind, (namespace, name), subresource, patch)
    }

    /// Deletes an object; `options` are DeleteOptions as JSON.
    ///
    /// # Errors
    /// The `Status` that HTTP would answer.
    pub fn delete(
        &mut self,
        by: &User,
        resource: &str,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> std::result::Result<Arc<Value>, Reply> {
        let kind = self.kind(resource)?;
        self.delete_object(by, &kind, (namespace, name), options)
    }

    /// Binds a Pod to a node, as the scheduler does.
    ///
    /// # Errors
    /// The `Status` that HTTP would answer: 409 if it is bound, gated or being deleted, or another uid.
    pub fn bind(
        &mut self,
        by: &User,
        namespace: &str,
        pod: &str,
        uid: &str,
        node: &str,
    ) -> std::result::Result<(), Reply> {
        let binding = json!({
            "metadata": { "name": pod, "uid": uid },
            "target": { "kind": "Node", "name": node },
        });
        self.bind_pod(by, namespace, pod, &binding).map(drop)
    }

    /// The next number of the seed's sequence: SplitMix64.
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A version 4 UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.random(), self.random());
        let high = (high & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// Five characters that read well, as upstream appends to `generateName`.
    pub(crate) fn suffix(&mut self) -> String {
        const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        let number = self.random();
        let letter = |place: u32| LETTERS[(number >> (8 * place)) as usize % LETTERS.len()];
        (0..5).map(|place| char::from(letter(place))).collect()
    }

    /// The wall time as metav1.Time writes it: whole seconds.
    pub(crate) fn stamp(&self) -> Value {
        stamp(self.now)
    }
}

/// A time in whole seconds.
pub(crate) fn stamp(at: Timestamp) -> Value {
    json!(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
