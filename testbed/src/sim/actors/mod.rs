//! Those who live in a cluster besides the controller under test.
//!
//! Each is a task that hears every change and writes through the API server, like the real one.

pub mod amounts;
pub mod collector;
pub mod kubelet;
pub mod nodes;
pub mod scheduler;
pub mod users;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{
        object::condition,
        sim::{
            cluster::Cluster,
            journal::{Journal, Keep},
        },
    };

    #[tokio::test(start_paused = true)]
    async fn what_fits_runs_ready_and_what_does_not_is_told_how_many_nodes_there_are() {
        let cluster = Cluster::new(1, 1.0, Journal::new(Keep::Digest));
        cluster.spawn(scheduler::Scheduler::new(&cluster, Duration::from_millis(1)).run());
        cluster.spawn(kubelet::Kubelets::new(&cluster, 1, 10).run());
        let (nodes, users) = (nodes::Nodes::new(&cluster), users::Users::new(&cluster));
        nodes.join(&nodes::node("n1", &[], "1", "1Gi"));
        nodes.join(&nodes::node("n2", &[], "1", "1Gi"));
        nodes.befall("n2", &nodes::Fortune::Leave);
        for (name, cpu) in [("small", "1"), ("large", "2")] {
            let container = json!({ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } });
            let pod = json!({
                "metadata": { "name": name, "namespace": "default" }, "spec": { "containers": [container] },
            });
            assert!(users.create("pods", &pod), "{name}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let pod = |name| cluster.api(|api| api.get("pods", "default", name)).unwrap();
        assert_eq!(pod("small")["status"]["containerStatuses"][0]["ready"], true);
        let scheduled = condition(&pod("large"), "PodScheduled").cloned().unwrap();
        assert_eq!(
            scheduled["message"],
            "0/1 nodes are available: 1 Insufficient cpu."
        );
    }
}
