//! A real control plane on one machine, for tests, demos and load tests.
//!
//! [`Plane::start`] builds the binaries if need be, starts them on free loopback ports and waits until they
//! serve; several planes may run at once. Everything started here dies with this process, however it ends.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use testbed::real::{NodeSpec, Plane, PlaneConfig, create_nodes, wait_nodes_ready};
//!
//! let plane = Plane::start(PlaneConfig::default()).await?;
//! let client = plane.client();
//! create_nodes(&client, (0..10).map(|i| NodeSpec::new(format!("n{i}")).pool("a"))).await?;
//! wait_nodes_ready(&client, "pool=a", 10, std::time::Duration::from_secs(30)).await?;
//! # Ok(())
//! # }
//! ```

mod args;
mod audit;
mod binaries;
mod component;
mod config;
mod dir;
mod http;
mod identity;
mod korder;
pub mod kubeconfig;
mod kwok;
mod nodes;
mod plane;
mod ports;
mod process;
mod stack;
mod usage;
pub mod wait;

pub use audit::{AuditEntry, AuditLog, Mark, WriteCounts, WriteKind};
pub use component::Component;
pub use config::PlaneConfig;
pub use korder::{KorderConfig, KorderProcess};
pub use kwok::{EXIT, HOLD, STOP_DELAY};
pub use nodes::{
    NodeSpec, Ready, add_taint, cordon, create_nodes, delete_node, hand_back, relabel, remove_taint,
    set_ready, uncordon, wait_nodes_ready,
};
pub use plane::Plane;
pub use process::{Process, Signal};
pub use usage::Usage;
