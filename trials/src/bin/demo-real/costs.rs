//! What korder wrote, as the API server's audit log has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use testbed::real::AuditEntry;
use trials::show::Writes;

/// A Ticket that has waited for so long says why: one more status.
const SAYS_WHY: Duration = Duration::from_secs(5);

/// How many writes there are, Leases apart.
pub(crate) fn count(writes: &[AuditEntry]) -> Writes {
    let others = writes
        .iter()
        .filter(|write| !write.is_lease() && !is_pairs(write));
    Writes {
        pairs: pairs(writes).len() as u64,
        others: others.count() as u64,
    }
}

fn is_pairs(write: &AuditEntry) -> bool {
    matches!(write.resource.as_str(), "tickets" | "pods")
}

/// Writes on Tickets and Guardians.
pub(crate) fn pairs(writes: &[AuditEntry]) -> Vec<&AuditEntry> {
    writes.iter().filter(|write| is_pairs(write)).collect()
}

/// The writes on Tickets and Guardians that nobody needs where everything is fast: what was refused because
/// something else came first or there was too much to do, and the reason of a Ticket that had to wait.
pub(crate) fn slow(writes: &[AuditEntry]) -> Vec<&AuditEntry> {
    let made = |name: &str| {
        let mut creates = writes
            .iter()
            .filter(|write| write.resource == "tickets" && write.verb == "create" && write.name == name);
        creates.next().map(|create| create.received)
    };
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut slow = pairs(writes);
    slow.retain(|write| {
        if !(200..400).contains(&write.code) {
            return true;
        }
        let is_status = write.resource == "tickets" && write.subresource == "status";
        if !is_status || seen.insert(&write.name) {
            return false;
        }
        let waited = made(&write.name).map(|made| write.received.duration_since(made));
        waited.is_some_and(|waited| waited.unsigned_abs() >= SAYS_WHY)
    });
    slow
}

/// How many there are of each kind.
pub(crate) fn by_kind(writes: &[&AuditEntry]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for write in writes {
        let slash = if write.subresource.is_empty() { "" } else { "/" };
        let AuditEntry {
            verb,
            resource,
            subresource,
            code,
            ..
        } = write;
        let kind = format!("{verb} {resource}{slash}{subresource} ({code})");
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// Such as `9 patch tickets/status (200)`.
pub(crate) fn counted((what, count): (&String, &usize)) -> String {
    format!("{count} {what}")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn write(second: i64, verb: &str, resource: &str, subresource: &str, code: u16) -> AuditEntry {
        let received = Timestamp::from_second(second).unwrap();
        AuditEntry {
            user: String::new(),
            verb: verb.to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: "default".to_owned(),
            name: "t".to_owned(),
            code,
            received,
            completed: received,
            user_agent: String::new(),
            uri: String::new(),
            forbidden: false,
            request: None,
            response: None,
        }
    }

    #[test]
    fn only_slowness_excuses_a_write() {
        let made = write(0, "create", "tickets", "", 201);
        let status = |second| write(second, "patch", "tickets", "status", 200);
        let refused = write(1, "create", "pods", "", 409);
        let excused = |writes: &[AuditEntry]| by_kind(&slow(writes)).iter().map(counted).collect::<Vec<_>>();

        let none: [&str; 0] = [];
        assert_eq!(excused(&[made.clone(), status(1)]), none);
        assert_eq!(excused(&[made.clone(), status(1), status(2)]), none, "too soon");
        assert_eq!(
            excused(&[made, refused, status(6), status(7)]),
            ["1 create pods (409)", "1 patch tickets/status (200)"]
        );
    }
}
