//! What a process uses, read from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Memory and processor time of one process at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident bytes (`VmRSS`).
    pub rss_bytes: u64,
    /// The most that was ever resident (`VmHWM`).
    pub peak_rss_bytes: u64,
    /// Resident bytes that no file backs (`RssAnon`): what the program itself holds.
    pub anon_bytes: u64,
    /// Processor time in user and kernel mode since the start, all threads.
    pub cpu: Duration,
}

impl Usage {
    /// Reads the usage of a process.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("no process {pid}"))
        };
        let status = read("status")?;
        let cpu = cpu_ticks(&read("stat")?).context("unexpected /proc/PID/stat")?;
        Ok(Self {
            rss_bytes: kib(&status, "VmRSS:")?,
            peak_rss_bytes: kib(&status, "VmHWM:")?,
            anon_bytes: kib(&status, "RssAnon:")?,
            cpu: Duration::from_secs(cpu) / u32::try_from(rustix::param::clock_ticks_per_second())?,
        })
    }
}

/// One field of `/proc/PID/status`, in bytes.
fn kib(status: &str, field: &str) -> Result<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let value = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(value.with_context(|| format!("no {field} in /proc/PID/status; has the process ended?"))? * 1024)
}

/// utime + stime: fields 14 and 15, counted after the command in parentheses, which may hold spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_behind_a_command_with_spaces_and_parentheses() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 3 4 20 0 1 0 100 1000 200";
        assert_eq!(cpu_ticks(stat), Some(300));
    }

    #[test]
    fn own_usage_is_plausible() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(
            usage.rss_bytes > 100_000 && usage.peak_rss_bytes >= usage.rss_bytes,
            "{usage:?}"
        );
    }
}
