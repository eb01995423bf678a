//! What `korder shards` says, as a table.

use super::{Answer, ShardReport};

const TITLES: [&str; 9] = [
    "SHARD", "OWNER", "RANGE", "NODES", "TICKETS", "RESERVED", "PENDING", "QUEUE", "RENEWED",
];

/// The whole answer: columns as wide as they need to be.
pub(super) fn render(answer: &Answer) -> String {
    let rows: Vec<_> = answer.shards.iter().map(row).collect();
    let mut widths = TITLES.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 9]| {
        let padded = cells.iter().zip(widths);
        let padded: Vec<_> = padded.map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let titles = TITLES.map(str::to_owned);
    [&titles].into_iter().chain(&rows).map(line).collect()
}

/// What is not known is a dash. A holder of the Lease who is not the owner yet, or no longer, is named.
fn row(report: &ShardReport) -> [String; 9] {
    let count = |of: fn(&super::Totals) -> u32| {
        let totals = report.totals.as_ref();
        totals.map_or_else(|| "-".to_owned(), |totals| of(totals).to_string())
    };
    let owner = report.totals.as_ref().map(|totals| totals.owner.clone());
    let lease = report.lease.as_ref();
    let holder = lease.and_then(|lease| lease.holder.clone());
    let age = lease.and_then(|lease| lease.age_seconds);
    let renewed = match (age, lease.is_some()) {
        (Some(age), _) if holder == owner => format!("{age}s ago"),
        (Some(age), _) => format!("{age}s ago by {}", holder.as_deref().unwrap_or("nobody")),
        (None, true) => "never".to_owned(),
        (None, false) => "-".to_owned(),
    };
    [
        report.shard.to_string(),
        owner.unwrap_or_else(|| "-".to_owned()),
        format!("{}-{}", digits(&report.range.from), digits(&report.range.to)),
        count(|totals| totals.nodes),
        count(|totals| totals.tickets),
        count(|totals| totals.reserved),
        count(|totals| totals.pending),
        count(|totals| totals.queue),
        renewed,
    ]
}

fn digits(hash: &str) -> &str {
    hash.trim_start_matches("0x")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shards::{LeaseReport, Range, Totals};

    #[test]
    fn a_table_with_dashes_for_what_is_not_known() {
        let totals = Totals {
            owner: "korder-0".to_owned(),
            nodes: 31,
            tickets: 62,
            reserved: 60,
            claimed: 0,
            pending: 2,
            queue: 1,
            updated_time: None,
        };
        let range = |from: &str, to: &str| Range {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let lease = |holder: &str| LeaseReport {
            holder: Some(holder.to_owned()),
            renew_time: None,
            age_seconds: Some(3),
        };
        let answer = Answer {
            server_time: String::new(),
            namespace: "korder-system".to_owned(),
            count: 2,
            shards: vec![
                ShardReport {
                    shard: 0,
                    range: range("0x0000000000000000", "0x8000000000000000"),
                    totals: Some(totals),
                    lease: Some(lease("korder-0")),
                },
                ShardReport {
                    shard: 1,
                    range: range("0x8000000000000000", "0x10000000000000000"),
                    totals: None,
                    lease: Some(lease("korder-1")),
                },
            ],
        };
        let expected = "\
SHARD  OWNER     RANGE                               NODES  TICKETS  RESERVED  PENDING  QUEUE  RENEWED
0      korder-0  0000000000000000-8000000000000000   31     62       60        2        1      3s ago
1      -         8000000000000000-10000000000000000  -      -        -         -        -      3s ago by korder-1
";
        assert_eq!(render(&answer), expected);
    }
}
