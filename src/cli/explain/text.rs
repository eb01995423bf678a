//! What `korder explain` says, as text for people: 80 columns, no colour.
//!
//! Words too long for a line stay whole, so that names can be copied.

use super::report::{
    ConditionReport, Explanation, Group, GuardianReport, GuardianStanding, OrderReport, PairReport,
    StrategyReport, Subject, SummaryReport, TicketReport, WindowReport,
};

const WIDTH: usize = 80;
/// Column at which the text beside a label begins.
const LABEL: usize = 13;
/// Column at which the reason beside a rule begins.
const RULE: usize = 22;
/// Columns of a summary's tables: the word, then the number.
const WORD: usize = 24;
const COUNT: usize = 8;

/// The whole answer.
pub(super) fn render(explanation: &Explanation) -> String {
    let mut page = Page::default();
    page.order(&explanation.order);
    match &explanation.subject {
        Subject::Pair(pair) => page.pair(pair),
        Subject::Summary(summary) => page.summary(summary, &explanation.order),
    }
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// `head`, and from column `indent` on `text`, broken between words.
    fn wrapped(&mut self, head: &str, indent: usize, text: &str) {
        self.0.push_str(head);
        let mut column = head.chars().count();
        let mut separator = indent.saturating_sub(column).max(usize::from(column > 0));
        for word in text.split_whitespace() {
            let length = word.chars().count();
            if column > indent && column + separator + length > WIDTH {
                self.0.push('\n');
                (column, separator) = (0, indent);
            }
            self.0.push_str(&" ".repeat(separator));
            self.0.push_str(word);
            column += separator + length;
            separator = 1;
        }
        self.0.push('\n');
    }

    fn line(&mut self, label: &str, text: &str) {
        self.wrapped(label, LABEL, text);
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }

    fn order(&mut self, order: &OrderReport) {
        self.line("Order", &format!("{}/{}", order.namespace, order.name));
        self.line("Spec", if order.valid { "valid" } else { "INVALID:" });
        for problem in &order.problems {
            let text = format!("{}: {}: {}", problem.field, problem.problem, problem.remedy);
            self.line("", &format!("- {text}"));
        }
        if let Some(known) = &order.strategy {
            self.line("Strategy", &strategy(known));
        }
        if order.valid {
            self.line(
                "Window",
                &window(order.window.as_ref(), order.next_window.as_ref()),
            );
        }
        for warning in &order.warnings {
            self.line("Warning", warning);
        }
        if order.deleting {
            self.line("State", "being deleted");
        } else if order.paused {
            self.line("State", "paused: no new Tickets or Guardians, no roll-out");
        }
        if order.conditions.is_empty() {
            self.line("Condition", "none yet: is `korder run` up?");
        }
        // But for `Ready`, what is not so is nothing to read about.
        let telling = |known: &&ConditionReport| known.kind == "Ready" || known.status != "False";
        for known in order.conditions.iter().filter(telling) {
            self.line("Condition", &condition(known, order.generation));
        }
    }

    fn pair(&mut self, pair: &PairReport) {
        let deleting = if pair.node.deleting { ", being deleted" } else { "" };
        self.line("Node", &format!("{}{deleting}", pair.node.name));
        self.gap();
        let eligible = match (pair.eligible, pair.reason) {
            (None, _) => "not known: the spec is invalid".to_owned(),
            (Some(true), _) => "yes".to_owned(),
            (Some(false), reason) => format!("NO: {}", reason.unwrap_or_default()),
        };
        self.line("Eligible", &eligible);
        for rule in &pair.rules {
            let word = if rule.holds { "holds" } else { "FAILS" };
            self.wrapped(&format!("  {:<12} {word}", rule.rule), RULE, &rule.detail);
        }
        self.line("Open Ticket", &pair.open_ticket.detail);
        self.gap();
        if pair.tickets.is_empty() {
            self.line("Ticket", "none");
        }
        for known in &pair.tickets {
            self.ticket(known);
        }
        self.line("Waits for", &pair.waits_for);
    }

    fn ticket(&mut self, known: &TicketReport) {
        self.line("Ticket", &ticket(known));
        if let Some(reason) = &known.reason {
            let message = known.message.iter().map(|message| format!(": {message}"));
            self.line("  Reason", &format!("{reason}{}", message.collect::<String>()));
        }
        for one in &known.guardians {
            // The Ticket says the same after a while: once is enough.
            let message = one.message.as_deref().filter(|_| one.message != known.message);
            self.line("  Guardian", &guardian(one, message));
        }
        if known.guardians.is_empty() {
            self.line("  Guardian", "none");
        }
    }

    fn summary(&mut self, summary: &SummaryReport, order: &OrderReport) {
        self.gap();
        self.row("NODES", "COUNT", "EXAMPLES");
        self.row("all", &summary.nodes.to_string(), "");
        if let Some(eligible) = summary.eligible {
            self.row("eligible", &eligible.to_string(), "");
        }
        if summary.without_ticket.count > 0 {
            self.group("  without Ticket", &summary.without_ticket);
        }
        for group in &summary.ineligible {
            self.group(group.reason, &group.nodes);
        }
        self.gap();
        self.row("TICKETS", "COUNT", "");
        for (phase, count) in &summary.tickets {
            self.row(&format!("{phase:?}"), &count.to_string(), "");
        }
        if summary.tickets.is_empty() {
            self.row("none", "0", "");
        }
        if !summary.pending.is_empty() {
            self.gap();
            self.row("PENDING BECAUSE", "COUNT", "EXAMPLE");
        }
        for group in &summary.pending {
            let message = group.message.iter().map(|message| format!(": {message}"));
            let example = format!("{}{}", group.node, message.collect::<String>());
            self.row(&group.reason, &group.count.to_string(), &example);
        }
        self.gap();
        let example = hint(summary).unwrap_or("NODE");
        let (name, namespace) = (&order.name, &order.namespace);
        self.wrapped(
            "For one Node:",
            14,
            &format!("korder explain {name} {example} -n {namespace}"),
        );
    }

    fn group(&mut self, word: &str, group: &Group) {
        let more = if group.count as usize > group.examples.len() {
            ", ..."
        } else {
            ""
        };
        let examples = format!("{}{more}", group.examples.join(", "));
        self.row(word, &group.count.to_string(), &examples);
    }

    fn row(&mut self, word: &str, count: &str, text: &str) {
        let head = format!("{word:<WORD$}{count:>COUNT$}");
        self.wrapped(&head, WORD + COUNT + 2, text);
    }
}

fn strategy(known: &StrategyReport) -> String {
    let mut text = format!("{:?}", known.kind);
    if let Some(schedule) = &known.schedule {
        text += &format!(" {schedule:?}");
    }
    if let Some(zone) = &known.time_zone {
        text += &format!(" in {zone}");
    }
    if let Some(start) = &known.start_time {
        text += &format!(", from {}", start.0);
    }
    if let Some(duration) = &known.duration {
        text += &format!(", duration {duration}");
    }
    text + &format!(", refreshPolicy {:?}", known.refresh_policy)
}

fn window(open: Option<&WindowReport>, next: Option<&WindowReport>) -> String {
    match (open, next) {
        (Some(open), next) => {
            let end = match (&open.end, next) {
                (None, _) => "; it never closes".to_owned(),
                (Some(end), _) if open.followed => {
                    format!(" until {}; then Tickets are renewed in place", end.0)
                }
                (Some(end), Some(next)) => format!(" until {}; the next opens at {}", end.0, next.start.0),
                (Some(end), None) => format!(" until {}; none follows", end.0),
            };
            format!("open since {}{end}", open.start.0)
        }
        (None, Some(next)) => format!("closed; the next opens at {}", next.start.0),
        (None, None) => "closed for good".to_owned(),
    }
}

fn condition(known: &ConditionReport, generation: i64) -> String {
    let seen = known.observed_generation.filter(|&seen| seen < generation);
    let old = seen.map(|seen| format!(" (of generation {seen}; the Order is at {generation})"));
    format!(
        "{}={} {}: {}{}",
        known.kind,
        known.status,
        known.reason,
        known.message,
        old.unwrap_or_default()
    )
}

fn ticket(known: &TicketReport) -> String {
    let mut text = format!("{}, {:?}, sequence {}", known.name, known.phase, known.sequence);
    match (&known.finished_time, &known.expiration_time) {
        (Some(finished), _) => text += &format!(", finished at {}", finished.0),
        (None, Some(expires)) => text += &format!(", expires at {}", expires.0),
        (None, None) => {}
    }
    let notes = [
        (known.updated == Some(false), ", older template"),
        (known.earlier_node, ", of an earlier Node of this name"),
        (known.deleting, ", being deleted"),
    ];
    text.extend(
        notes
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, note)| note),
    );
    text
}

fn guardian(known: &GuardianReport, message: Option<&str>) -> String {
    let state = match known.state {
        GuardianStanding::Bound => "bound",
        GuardianStanding::Unbound => "not bound",
        GuardianStanding::UnderCover => "under cover, to take over the room",
        GuardianStanding::Ended => "ended",
        GuardianStanding::Foreign => "not korder's: a foreign Pod has the name",
    };
    let mut text = format!("{}, {state}", known.name);
    if let Some(node) = &known.node {
        text += &format!(" to {node}");
    }
    if known.deleting {
        text += ", being deleted";
    }
    if let Some(message) = message {
        text += &format!(": {message}");
    }
    text
}

/// The node that is most worth asking about.
fn hint(summary: &SummaryReport) -> Option<&str> {
    let pending = summary.pending.first().map(|group| group.node.as_str());
    let ineligible = summary.ineligible.iter().map(|group| &group.nodes);
    let mut others = std::iter::once(&summary.without_ticket)
        .chain(ineligible)
        .flat_map(|group| &group.examples);
    pending.or_else(|| others.next().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::explain::judge::testing::{Scene, scene};
    use crate::domain::node::record::ReadyStatus;

    fn agents() -> Scene {
        scene(json!({ "template": { "spec": {
            "duration": "24h",
            "nodeSelector": { "kubernetes.io/os": "linux" },
            "tolerations": [{ "operator": "Exists", "effect": "NoSchedule" }],
        } } }))
        .node(|node| node.label("kubernetes.io/os", "linux"))
    }

    #[test]
    fn a_node_that_is_reserved() {
        let scene = agents()
            .node(|node| node.taint("dedicated=gpu:NoSchedule"))
            .ready("True", "AllReserved", "1 of 1 eligible nodes have their room")
            .reserved();
        assert_eq!(
            scene.text(),
            "\
Order        default/agents
Spec         valid
Strategy     OneTime, duration 24h, refreshPolicy OnClaim
Window       open since 1970-01-01T00:00:00Z until 1970-01-02T00:00:00Z; none
             follows
Condition    Ready=True AllReserved: 1 of 1 eligible nodes have their room
Node         n1

Eligible     yes
  Ready        holds  condition Ready is True since 1970-01-01T00:00:00Z
  Schedulable  holds  not cordoned
  Selected     holds  nodeSelector kubernetes.io/os=linux
  Tolerated    holds  taint dedicated=gpu:NoSchedule is tolerated by {operator:
                      Exists, effect: NoSchedule}
Open Ticket  stays while every rule holds and its window is open

Ticket       agents-zujshfzjp7paa, Reserved, sequence 0
  Guardian   guardian-agents-zujshfzjp7paa, bound to n1
Waits for    nothing: the Guardian holds the room until 1970-01-02T00:00:00Z
"
        );
    }

    #[test]
    fn a_node_that_fails_several_rules() {
        let scene = agents().node(|node| {
            node.label("kubernetes.io/os", "windows")
                .cordoned()
                .taint("dedicated=gpu:NoExecute")
                .ready(ReadyStatus::Unknown, 90)
        });
        assert_eq!(
            scene.text(),
            "\
Order        default/agents
Spec         valid
Strategy     OneTime, duration 24h, refreshPolicy OnClaim
Window       open since 1970-01-01T00:00:00Z until 1970-01-02T00:00:00Z; none
             follows
Condition    none yet: is `korder run` up?
Node         n1

Eligible     NO: NotReady
  Ready        FAILS  condition Ready is Unknown since 1970-01-01T00:01:30Z
  Schedulable  FAILS  spec.unschedulable is true (cordoned)
  Selected     FAILS  label kubernetes.io/os is \"windows\", not \"linux\"
  Tolerated    FAILS  taint dedicated=gpu:NoExecute is not tolerated
Open Ticket  removed at once: Unschedulable

Ticket       none
Waits for    the node to be eligible; the first rule that fails is Ready
"
        );
    }

    #[test]
    fn a_ticket_that_waits_for_room() {
        let scene = agents().pending("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match.");
        let text = scene.text();
        let (_, ticket) = text.split_once("window is open\n\n").unwrap();
        assert_eq!(
            ticket,
            "\
Ticket       agents-zujshfzjp7paa, Pending, sequence 0
  Reason     InsufficientResources: 0/2 nodes are available: 1 Insufficient cpu,
             1 node(s) didn't match.
  Guardian   guardian-agents-zujshfzjp7paa, not bound
Waits for    room on the node: the scheduler finds none for the Guardian
"
        );
    }

    #[test]
    fn an_order_that_makes_no_sense_names_field_problem_and_remedy() {
        let scene = scene(json!({ "template": { "spec": { "duration": "24x" } } })).reserved();
        assert_eq!(
            scene.text(),
            "\
Order        default/agents
Spec         INVALID:
             - spec.template.spec.duration: \"24x\" has an unknown unit: use h, m
             and s, such as 24h or 1h30m
Strategy     OneTime, duration 24x, refreshPolicy OnClaim
Condition    none yet: is `korder run` up?
Node         n1

Eligible     not known: the spec is invalid
Open Ticket  stays until the spec is valid

Ticket       agents-zujshfzjp7paa, Reserved, sequence 0
  Guardian   guardian-agents-zujshfzjp7paa, bound to n1
Waits for    a valid spec; until then nothing is made, changed or removed
"
        );
    }

    #[test]
    fn conditions_that_tell_something_are_shown() {
        let text = scene(json!({}))
            .condition("Stalled", "False", "Moving", "the roll-out goes on")
            .condition(
                "Progressing",
                "True",
                "RollingOut",
                "2 of 9 Tickets are of the template",
            )
            .ready("False", "Reserving", "8 of 9")
            .text();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("Condition"))
            .collect();
        assert_eq!(
            lines,
            [
                "Condition    Progressing=True RollingOut: 2 of 9 Tickets are of the template",
                "Condition    Ready=False Reserving: 8 of 9"
            ]
        );
    }

    #[test]
    fn what_a_spec_asks_for_in_vain_is_warned_of() {
        let page = |spec| scene(json!({ "template": { "spec": spec } })).reserved().text();
        let with = |strategy| {
            let template = json!({ "spec": { "duration": "1h" } });
            scene(json!({ "strategy": strategy, "template": template })).text()
        };
        let text = with(json!({ "type": "OneTime", "schedule": "@daily" }));
        let ignored = "Warning      schedule is ignored: type OneTime has no ticks\n";
        assert!(text.contains(ignored), "{text}");
        let text = with(json!({ "type": "Recurring", "schedule": "@daily", "refreshPolicy": "Always" }));
        let ignored = "Warning      duration is ignored: refreshPolicy Always holds room from tick to\n";
        assert!(text.contains(ignored), "{text}");
        let empty = page(json!({ "resources": { "requests": { "cpu": "0", "memory": "0Mi" } } }));
        assert!(
            empty.contains("Warning      no room is held: every request is 0\n"),
            "{empty}"
        );
        let usual = page(json!({}));
        assert!(!usual.contains("Warning"), "the defaults are room: {usual}");
    }

    #[test]
    fn a_window_says_when_it_opens_and_closes() {
        let [once, ever] = ["OnClaim", "Always"].map(|policy| json!({ "refreshPolicy": policy }));
        let ticks = json!({ "type": "Scheduled", "schedule": "* * * * *" });
        for (strategy, duration, expected) in [
            (
                &once,
                json!(null),
                "open since 1970-01-01T00:00:00Z; it never closes",
            ),
            (&once, json!("60s"), "closed for good"),
            (
                &ever,
                json!("60s"),
                "open since 1970-01-01T00:01:00Z until 1970-01-01T00:02:00Z; then Tickets are renewed in place",
            ),
            (
                &ticks,
                json!("30s"),
                "closed; the next opens at 1970-01-01T00:02:00Z",
            ),
            (
                &ticks,
                json!("50s"),
                "open since 1970-01-01T00:01:00Z until 1970-01-01T00:01:50Z; the next opens at 1970-01-01T00:02:00Z",
            ),
        ] {
            let template = json!({ "spec": { "duration": duration } });
            let text = scene(json!({ "strategy": strategy, "template": template })).text();
            let words: Vec<_> = text.split_whitespace().collect();
            assert!(words.join(" ").contains(&format!("Window {expected} ")), "{text}");
        }
    }

    #[test]
    fn a_summary_counts_nodes_and_tickets_and_gives_examples() {
        let text = agents().summary_text();
        let (_, tables) = text.split_once("\n\n").unwrap();
        assert_eq!(
            tables,
            "\
NODES                      COUNT  EXAMPLES
all                            9
eligible                       4
  without Ticket               1  linux-3
NodeSelectorMismatch           4  windows-0, windows-1, windows-2, ...
NotReady                       1  broken

TICKETS                    COUNT
Pending                        2
Reserved                       1
Expired                        1

PENDING BECAUSE            COUNT  EXAMPLE
InsufficientResources          2  linux-1: 0/9 nodes are available: 1
                                  Insufficient cpu.

For one Node: korder explain agents linux-1 -n default
"
        );
    }

    #[test]
    fn words_longer_than_a_line_stay_whole() {
        let mut page = Page::default();
        let name = "x".repeat(90);
        page.line("Node", &format!("{name} a"));
        assert_eq!(page.0, format!("Node         {name}\n             a\n"));
    }
}
