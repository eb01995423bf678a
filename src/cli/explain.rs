//! `korder explain ORDER [NODE]`: why a node is or is not reserved for an Order.
//!
//! Reads the API, judges by the functions of `domain`, prints. It decides nothing of its own and
//! writes nothing to the cluster.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use clap::Args;

use self::report::{Explanation, Subject};
use super::{Output, cluster::Cluster, say};
use crate::runtime::{config::span, error::one_line};

mod judge;
mod read;
mod report;
mod text;

/// Flags of `korder explain`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Request {
    /// The Order: NAME, order/NAME or NAMESPACE/NAME
    order: String,
    /// The Node: NAME or node/NAME; without it, a summary of all Nodes
    node: Option<String>,
    /// Namespace of the Order [default: that of the kubeconfig's context]
    #[arg(short, long)]
    namespace: Option<String>,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The --not-ready-grace that the controller runs with
    #[arg(long, env = "KORDER_NOT_READY_GRACE", default_value = "60s", value_parser = span)]
    not_ready_grace: Duration,
}

/// Answers, or says in one line on standard error why it cannot.
pub(crate) async fn explain(request: Request) -> ExitCode {
    let output = request.output;
    match answer(request).await {
        Ok(explanation) => {
            match output {
                Output::Json => say(&json(&explanation)),
                Output::Text => say(&text::render(&explanation)),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("korder: {}", one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn json(explanation: &Explanation) -> String {
    let json = serde_json::to_string_pretty(explanation);
    json.expect("maps with string keys serialize") + "\n"
}

async fn answer(request: Request) -> anyhow::Result<Explanation> {
    let target = Target::parse(
        &request.order,
        request.node.as_deref(),
        request.namespace.as_deref(),
    )?;
    let reader = Cluster::connect(target.namespace).await?;
    let order = reader.order(&target.order).await?;
    let grace = request.not_ready_grace;
    let subject = match &target.node {
        Some(node) => Subject::Pair(judge::pair(&reader.pair(&order, node).await?, grace)),
        None => Subject::Summary(reader.summary(&order, grace).await?),
    };
    Ok(Explanation {
        server_time: judge::time(reader.now().server),
        not_ready_grace_seconds: grace.as_secs(),
        order: judge::order(&order, reader.now().server),
        subject,
    })
}

/// What the arguments name.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    namespace: Option<String>,
    order: String,
    node: Option<String>,
}

impl Target {
    fn parse(order: &str, node: Option<&str>, namespace: Option<&str>) -> anyhow::Result<Self> {
        let (prefix, name) = match order.split_once('/') {
            None => (None, order),
            Some(("order" | "orders" | "kord", name)) => (None, name),
            Some(("pod" | "pods" | "po", _)) => {
                bail!("{order}: claims are not implemented yet: name an Order")
            }
            Some(("node" | "nodes" | "no", _)) => {
                bail!("{order} is a Node: name the Order first, as in `korder explain ORDER {order}`")
            }
            Some((namespace, name)) => (Some(namespace), name),
        };
        if name.is_empty() || name.contains('/') || prefix == Some("") {
            bail!("{order:?} is not an Order: use NAME, order/NAME or NAMESPACE/NAME");
        }
        if let (Some(prefix), Some(flag)) = (prefix, namespace)
            && prefix != flag
        {
            bail!("{order} is in the namespace {prefix}, but -n says {flag}: leave one of them out");
        }
        Ok(Self {
            namespace: prefix.or(namespace).map(Into::into),
            order: name.to_owned(),
            node: node.map(node_name).transpose()?,
        })
    }
}

fn node_name(text: &str) -> anyhow::Result<String> {
    match text.split_once('/') {
        None if !text.is_empty() => Ok(text.to_owned()),
        Some(("node" | "nodes" | "no", name)) if !name.is_empty() && !name.contains('/') => {
            Ok(name.to_owned())
        }
        _ => bail!("{text:?} is not a Node: use NAME or node/NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(order: &str, node: Option<&str>, namespace: Option<&str>) -> String {
        match Target::parse(order, node, namespace) {
            Ok(target) => format!("{:?} {} {:?}", target.namespace, target.order, target.node),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn orders_and_nodes_are_named_as_kubectl_names_them() {
        let node = Some("n1");
        for (order, node, namespace, expected) in [
            ("a", None, None, "None a None"),
            ("a", node, Some("x"), "Some(\"x\") a Some(\"n1\")"),
            (
                "order/a",
                Some("node/n1"),
                Some("x"),
                "Some(\"x\") a Some(\"n1\")",
            ),
            ("x/a", None, None, "Some(\"x\") a None"),
            ("x/a", None, Some("x"), "Some(\"x\") a None"),
        ] {
            assert_eq!(parsed(order, node, namespace), expected);
        }
    }

    #[test]
    fn what_names_no_order_or_node_is_refused_with_a_remedy() {
        for (order, node, namespace, expected) in [
            ("x/a", None, Some("y"), "leave one of them out"),
            ("pod/a", None, None, "claims are not implemented yet"),
            ("node/n1", None, None, "korder explain ORDER node/n1"),
            ("a/b/c", None, None, "use NAME, order/NAME or NAMESPACE/NAME"),
            ("/a", None, None, "use NAME, order/NAME or NAMESPACE/NAME"),
            ("", None, None, "use NAME, order/NAME or NAMESPACE/NAME"),
            ("a", Some("pod/b"), None, "use NAME or node/NAME"),
            ("a", Some(""), None, "use NAME or node/NAME"),
        ] {
            let found = parsed(order, node, namespace);
            assert!(found.contains(expected), "{found}");
        }
    }
}
