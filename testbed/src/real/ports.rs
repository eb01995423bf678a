//! Loopback ports that stay ours. They are taken below the kernel's ephemeral range, so that no outgoing
//! connection takes one while its server is stopped, and each is held by a lock on a file, so that several
//! harnesses on one machine never pick the same.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process,
};

use anyhow::{Context, Result};

/// Below this, well-known services live.
const LOWEST: u16 = 15_000;

/// A port that no other harness takes while this value lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a free port.
    pub(crate) fn reserve() -> Result<Self> {
        let dir = std::env::temp_dir().join("korder-testbed-ports");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let end = ephemeral_start().max(LOWEST + 1_000);
        let count = u32::from(end - LOWEST);
        // Start at a place of our own so that harnesses that start together seldom ask for the same.
        let start = process::id().wrapping_mul(101) % count;
        (0..count)
            .map(|i| LOWEST + u16::try_from((start + i) % count).expect("below 65536"))
            .find_map(|number| try_reserve(&dir, number))
            .context("no free port on loopback")
    }

    /// The port's number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

fn try_reserve(dir: &Path, number: u16) -> Option<Port> {
    let lock = File::options()
        .create(true)
        .append(true)
        .open(dir.join(number.to_string()))
        .ok()?;
    lock.try_lock().ok()?;
    TcpListener::bind(("127.0.0.1", number)).ok()?;
    Some(Port { number, _lock: lock })
}

/// The first port the kernel gives to outgoing connections.
fn ephemeral_start() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range
        .split_ascii_whitespace()
        .next()
        .and_then(|low| low.parse().ok())
        .unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_differ_and_a_dropped_one_is_free_again() {
        let (first, second) = (Port::reserve().unwrap(), Port::reserve().unwrap());
        assert_ne!(first.number(), second.number());
        let number = first.number();
        drop(first);
        let dir = std::env::temp_dir().join("korder-testbed-ports");
        assert!(try_reserve(&dir, number).is_some());
    }
}
