//! kwok's configuration: Stages of our own, with the plane's heartbeat interval and padding filled in. The
//! annotations below are how a test takes a node or a Pod out of kwok's hands.

use std::time::Duration;

use super::config::PlaneConfig;

/// Annotation on a Node: kwok leaves its status alone while it is there, so that a test may write conditions.
/// [`super::set_ready`] sets it and [`super::hand_back`] removes it; a node created with it never turns Ready.
pub const HOLD: &str = "testbed.korder.dev/hold";

/// Annotation on a Pod: `Succeeded` or `Failed` is the phase in which kwok ends it once it runs.
pub const EXIT: &str = "testbed.korder.dev/exit";

/// Annotation on a Pod: how long it keeps running after its deletion with a grace period ("5s"); at once
/// without it.
pub const STOP_DELAY: &str = "testbed.korder.dev/stop-delay";

/// kwok's own settings. Its default of four workers for each kind is slow for thousands of nodes.
const OPTIONS: &str = "apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  nodePlayStageParallelism: 16
  podPlayStageParallelism: 16
";

/// The file for kwok's `--config`.
pub(crate) fn config(config: &PlaneConfig) -> String {
    let node = include_str!("stages/node.yaml").replace("@IMAGES@", &images(config.status_padding));
    let pod = include_str!("stages/pod.yaml");
    let mut documents = vec![OPTIONS.to_owned(), node, pod.to_owned()];
    documents.extend(config.heartbeat.map(heartbeat));
    documents.join("---\n")
}

/// The heartbeat Stage: one patch every `interval` ± 20 %, so that nodes do not beat in step.
fn heartbeat(interval: Duration) -> String {
    let milliseconds = |factor: f64| interval.mul_f64(factor).as_millis().to_string();
    include_str!("stages/heartbeat.yaml")
        .replace("@SHORTEST@", &milliseconds(0.8))
        .replace("@LONGEST@", &milliseconds(1.2))
}

/// A node status' images of about `bytes` bytes in all, as a YAML flow sequence. Kubelets report up to 50 images
/// with names of 100 to 200 bytes; here they are fewer and longer, for each element costs the API server, which
/// shares two cores with everything else, more than its bytes do at each patch.
fn images(bytes: usize) -> String {
    let name = |n: usize| {
        format!(
            "\"registry.example/padding/image-{n:02}/{}@sha256:{n:064x}\"",
            "p".repeat(1400)
        )
    };
    let image = |n: usize| format!("{{\"names\":[{}],\"sizeBytes\":{}}}", name(n), 10_000_000 + n);
    let images: Vec<String> = (0..bytes.div_ceil(image(0).len() + 1)).map(image).collect();
    format!("[{}]", images.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_has_about_the_asked_size_and_is_json() {
        let padding = images(15_000);
        assert!((15_000..17_000).contains(&padding.len()), "{}", padding.len());
        let images: serde_json::Value = serde_json::from_str(&padding).unwrap();
        assert!(images.as_array().unwrap().len() >= 9);
        assert_eq!(super::images(0), "[]");
    }

    #[test]
    fn no_placeholder_is_left_and_heartbeats_are_optional() {
        let without = config(&PlaneConfig::default());
        assert!(!without.contains("node-heartbeat") && !without.contains('@'));
        let every = Some(Duration::from_secs(10));
        let with = config(&PlaneConfig {
            heartbeat: every,
            ..PlaneConfig::default()
        });
        assert!(
            with.contains("durationMilliseconds: 8000\n") && with.contains("DurationMilliseconds: 12000\n")
        );
    }
}
