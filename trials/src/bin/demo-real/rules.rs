//! The three Orders, what the rules say of a node for each, and the nodes that the demo begins with.

use std::sync::LazyLock;

use serde_json::Value;
use testbed::{eligibility, real::NodeSpec};

/// One of the demo's Orders.
pub(crate) struct Order {
    pub(crate) name: &'static str,
    /// The template's `spec`.
    spec: Value,
}

/// How many Orders there are.
pub(crate) const COUNT: usize = 3;

pub(crate) static ORDERS: LazyLock<[Order; COUNT]> = LazyLock::new(|| {
    [
        (
            "infrastructure-reservation",
            include_str!("../../../../deploy/examples/infrastructure-reservation.yaml"),
        ),
        (
            "gpu-node-buffer",
            include_str!("../../../../deploy/examples/gpu-node-buffer.yaml"),
        ),
        ("storage-cache", include_str!("storage-cache.yaml")),
    ]
    .map(|(name, yaml)| {
        let mut order: Value = serde_saphyr::from_str(yaml).expect("an Order of this repository is YAML");
        Order {
            name,
            spec: order["spec"]["template"]["spec"].take(),
        }
    })
});

/// The places of the Orders in [`ORDERS`].
pub(crate) const GPU: usize = 1;
pub(crate) const STORAGE: usize = 2;

/// `tolerationSeconds` in storage-cache.yaml.
pub(crate) const DRAIN_SECONDS: u64 = 8;

impl Order {
    /// Why a node is not eligible; `None` if it is.
    pub(crate) fn why_not(&self, node: &Value) -> Option<&'static str> {
        eligibility::why_not(&self.spec, node)
    }
}

/// The `i`-th node: 5 % with a GPU, 15 % for storage, in three zones; 2 % dedicated, 1.5 % cordoned.
pub(crate) fn node(i: usize) -> NodeSpec {
    let node = NodeSpec::new(format!("node-{i:05}")).zone(["zone-a", "zone-b", "zone-c"][i % 3]);
    let node = match i % 20 {
        0 => node.pool("gpu").label("accelerator", "nvidia-tesla-k80").taint(
            "nvidia.com/gpu",
            "present",
            "NoSchedule",
        ),
        1..=3 => node.pool("storage"),
        _ => node.pool("general"),
    };
    let node = if matches!(i % 100, 40 | 61) {
        node.taint("dedicated", "gpu", "NoSchedule")
    } else {
        node
    };
    if i % 100 == 13 || i % 200 == 102 {
        node.unschedulable()
    } else {
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The reasons of the three Orders for a Ready node of the demo.
    fn reasons(node: NodeSpec) -> [Option<&'static str>; 3] {
        let mut node = json!(node.build());
        node["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
        ORDERS.each_ref().map(|order| order.why_not(&node))
    }

    #[test]
    fn every_kind_of_node_is_eligible_for_its_orders() {
        let (selector, affinity) = (Some("NodeSelectorMismatch"), Some("NodeAffinityMismatch"));
        assert_eq!(reasons(node(4)), [None, selector, affinity], "general");
        assert_eq!(reasons(node(20)), [None, None, affinity], "gpu");
        assert_eq!(reasons(node(40)), [None, None, affinity], "gpu, dedicated");
        assert_eq!(reasons(node(1)), [None, selector, None], "storage, zone-b");
        assert_eq!(reasons(node(2)), [None, selector, affinity], "storage, zone-c");
        assert_eq!(
            reasons(node(61)),
            [None, selector, Some("UntoleratedTaint")],
            "storage, dedicated"
        );
        assert_eq!(reasons(node(13)), [Some("Unschedulable"); 3], "cordoned");
    }

    #[test]
    fn drain_is_tolerated_for_a_while_by_storage_alone() {
        let drained = node(1).taint("maintenance", "drain", "NoExecute");
        let [infrastructure, _, storage] = reasons(drained);
        assert_eq!(
            (infrastructure, storage),
            (Some("UntoleratedTaint"), Some("ToleratedForAWhile"))
        );
    }
}
