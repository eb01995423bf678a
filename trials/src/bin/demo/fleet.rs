//! The nodes and the Orders of the demo: several kinds of nodes in three zones, the two Orders of the
//! documentation as they are, and a third that comes later.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testbed::sim::actors::nodes;

/// The label that makes a node one of the GPU nodes.
pub(crate) const ACCELERATOR: &str = "accelerator";
/// Its value.
pub(crate) const K80: &str = "nvidia-tesla-k80";

/// The names of the Orders, in the order in which they come.
pub(crate) const ORDERS: [&str; 3] = ["infrastructure-reservation", "gpu-node-buffer", "log-collector"];

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
const FILES: [&str; 3] = [
    include_str!("../../../../deploy/examples/infrastructure-reservation.yaml"),
    include_str!("../../../../deploy/examples/gpu-node-buffer.yaml"),
    include_str!("log-collector.yaml"),
];

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Most are.
    Linux,
    /// One in ten, with taints.
    Gpu,
    /// One in 25, of no Order's.
    Windows,
}

/// What the n-th node is.
pub(crate) fn kind(n: usize) -> Kind {
    match n % 50 {
        3 | 13 | 23 | 33 | 43 => Kind::Gpu,
        7 | 32 => Kind::Windows,
        _ => Kind::Linux,
    }
}

/// The name of the n-th node.
pub(crate) fn name(n: usize) -> String {
    match kind(n) {
        Kind::Linux => format!("linux-{n:05}"),
        Kind::Gpu => format!("gpu-{n:05}"),
        Kind::Windows => format!("windows-{n:05}"),
    }
}

/// The n-th node.
pub(crate) fn node(n: usize) -> Value {
    let kind = kind(n);
    let (os, cpu, memory) = match kind {
        Kind::Linux => ("linux", "16", "64Gi"),
        Kind::Gpu => ("linux", "32", "256Gi"),
        Kind::Windows => ("windows", "8", "32Gi"),
    };
    let mut labels = vec![
        ("kubernetes.io/os", os),
        ("topology.kubernetes.io/zone", ZONES[n % ZONES.len()]),
    ];
    if kind == Kind::Gpu {
        labels.extend([(ACCELERATOR, K80), ("node-role.kubernetes.io/gpu", "")]);
    }
    let mut node = nodes::node(&name(n), &labels, cpu, memory);
    node["status"]["nodeInfo"] = json!({
        "kubeletVersion": "v1.37.2", "operatingSystem": os, "architecture": "amd64", "machineID": "",
        "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "simulated",
        "containerRuntimeVersion": "", "kubeProxyVersion": "",
    });
    if kind == Kind::Gpu {
        node["spec"]["taints"] = json!(taints(n));
    }
    node
}

/// All GPU nodes keep other Pods away, every other one by a second taint, too.
fn taints(n: usize) -> Vec<Value> {
    let mut taints = vec![json!({ "key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule" })];
    if (n / 10).is_multiple_of(2) {
        taints.push(json!({ "key": "dedicated", "value": "gpu", "effect": "NoSchedule" }));
    }
    taints
}

/// The Order of [`ORDERS`], in `default`.
pub(crate) fn order(index: usize) -> Result<Value> {
    let mut order: Value =
        serde_saphyr::from_str(FILES[index]).with_context(|| format!("reading {}", ORDERS[index]))?;
    order["metadata"]["namespace"] = json!("default");
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_orders_that_are_named() {
        for (index, name) in ORDERS.iter().enumerate() {
            assert_eq!(order(index).unwrap()["metadata"]["name"], *name);
        }
    }

    #[test]
    fn a_tenth_of_the_nodes_are_gpu_nodes_with_and_without_the_second_taint() {
        let gpu: Vec<usize> = (0..1000).filter(|&n| kind(n) == Kind::Gpu).collect();
        let second = gpu.iter().filter(|&&n| taints(n).len() == 2).count();
        assert_eq!((gpu.len(), second), (100, 50));
    }
}
