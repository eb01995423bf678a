//! What the three Orders ask of a node, written by hand a second time: the demo predicts with this, and knows
//! nothing of korder's own code. Also the nodes that the demo begins with.

use k8s_openapi::api::core::v1::{Node, Taint};
use testbed::real::NodeSpec;

/// One of the demo's Orders.
pub(crate) struct Order {
    pub(crate) name: &'static str,
    /// Why the node's labels are not the ones asked for.
    unselected: fn(&Node) -> Option<&'static str>,
    /// Why a NoSchedule or NoExecute taint keeps the Order away.
    untolerated: fn(&Taint) -> Option<&'static str>,
}

/// deploy/examples/infrastructure-reservation.yaml, deploy/examples/gpu-node-buffer.yaml, storage-cache.yaml.
pub(crate) const ORDERS: [Order; 3] = [
    Order {
        name: "infrastructure-reservation",
        unselected: |node| mismatch(has(node, "kubernetes.io/os", &["linux"])),
        untolerated: |taint| (taint.effect != "NoSchedule").then_some("UntoleratedTaint"),
    },
    Order {
        name: "gpu-node-buffer",
        unselected: |node| {
            let gpu = has(node, "accelerator", &["nvidia-tesla-k80"]);
            mismatch(gpu && has(node, "kubernetes.io/os", &["linux"]))
        },
        untolerated: |taint| {
            let gpu = taint.key == "nvidia.com/gpu";
            let dedicated = taint.key == "dedicated" && taint.value.as_deref() == Some("gpu");
            (taint.effect != "NoSchedule" || !(gpu || dedicated)).then_some("UntoleratedTaint")
        },
    },
    Order {
        name: "storage-cache",
        unselected: |node| {
            let zone = has(node, "topology.kubernetes.io/zone", &["zone-a", "zone-b"]);
            (!zone || !has(node, "pool", &["storage"])).then_some("NodeAffinityMismatch")
        },
        untolerated: |taint| {
            let drain = taint.key == "maintenance" && taint.value.as_deref() == Some("drain");
            Some(if drain && taint.effect == "NoExecute" {
                "ToleratedForAWhile"
            } else {
                "UntoleratedTaint"
            })
        },
    },
];

/// The places of the Orders in [`ORDERS`].
pub(crate) const GPU: usize = 1;
pub(crate) const STORAGE: usize = 2;

/// `tolerationSeconds` in storage-cache.yaml.
pub(crate) const DRAIN_SECONDS: u64 = 8;

/// Taints that other rules stand for.
const LEFT_OUT: [&str; 3] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/unschedulable",
];

impl Order {
    /// Why a node is not eligible; `None` if it is.
    pub(crate) fn why_not(&self, node: &Node) -> Option<&'static str> {
        if !ready(node) {
            return Some("NotReady");
        }
        if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
            return Some("Unschedulable");
        }
        (self.unselected)(node).or_else(|| {
            let taints = node.spec.iter().filter_map(|spec| spec.taints.as_ref()).flatten();
            let hard = taints.filter(|taint| {
                taint.effect != "PreferNoSchedule" && !LEFT_OUT.contains(&taint.key.as_str())
            });
            // Of several reasons the one that acts at once is named.
            hard.filter_map(self.untolerated)
                .max_by_key(|reason| *reason == "UntoleratedTaint")
        })
    }
}

/// Whether the node's Ready condition is True.
pub(crate) fn ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn has(node: &Node, key: &str, values: &[&str]) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(key))
        .is_some_and(|value| values.contains(&value.as_str()))
}

fn mismatch(selected: bool) -> Option<&'static str> {
    (!selected).then_some("NodeSelectorMismatch")
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
        let mut node = node.build();
        node.status.get_or_insert_default().conditions =
            serde_json::from_value(json!([{ "type": "Ready", "status": "True" }])).unwrap();
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
