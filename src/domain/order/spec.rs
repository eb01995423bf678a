//! An Order as the rules read it: checked, defaulted, compiled once.
//!
//! An Order that makes no sense is still an Order: it keeps its identity and carries everything
//! that is wrong with it, so that its Tickets stay and its status can say why.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{
    Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::util::intstr::IntOrString};
use serde::Serialize;

use super::{
    demand::Demand,
    resources,
    schedule::{self, Schedule},
};
use crate::api::{
    self, KEY_PREFIX,
    order::{Lifecycle, RefreshPolicy, Resources, StrategyType, TicketTemplateSpec},
};
pub(crate) use crate::domain::values::invalid::Invalid;
use crate::domain::{
    node::{
        eligibility::Placement,
        selector::NodeSelector,
        toleration::{Operator, Toleration},
    },
    values::{
        duration,
        hash::{base32, fnv1a64},
        ids::{OrderKey, OrderUid, TemplateHash},
        quantity::Amount,
        syntax,
    },
};

/// Longest name of an Order: it is the value of a label.
const NAME_LENGTH: usize = 63;
/// Field of the template's spec.
const TEMPLATE: &str = "spec.template.spec";

/// An Order as the rules read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// `metadata.uid`.
    pub(crate) uid: OrderUid,
    /// Namespace and name.
    pub(crate) key: OrderKey,
    /// `metadata.generation`.
    pub(crate) generation: i64,
    /// `metadata.creationTimestamp`.
    pub(crate) created: Timestamp,
    /// Whether `metadata.deletionTimestamp` is set.
    pub(crate) deleting: bool,
    /// `spec.paused`; also of an Order whose spec is invalid.
    pub(crate) paused: bool,
    /// What it asks for, or everything that is wrong with it (never empty).
    pub(crate) spec: Result<Spec, Vec<Invalid>>,
}

/// What a valid Order asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// On which nodes.
    pub(crate) placement: Arc<Placement>,
    /// What each Ticket and Guardian is made from.
    pub(crate) template: Arc<Template>,
    /// When room is held, and what follows a claim.
    pub(crate) strategy: Strategy,
    /// How many pairs a roll-out may have without a running Guardian.
    pub(crate) max_unavailable: MaxUnavailable,
    /// Length of a window, more than zero.
    pub(crate) duration: Option<Duration>,
    /// No room is held before this time.
    pub(crate) start_time: Option<Timestamp>,
}

/// When room is held, and what follows a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strategy {
    /// The shape of the windows.
    pub(crate) kind: StrategyType,
    /// The ticks; present unless the type is `OneTime`.
    pub(crate) schedule: Option<Schedule>,
    /// The time zone of the schedule.
    pub(crate) time_zone: TimeZone,
    /// When a pair gets a new Ticket after a claim.
    pub(crate) refresh_policy: RefreshPolicy,
}

/// What each Ticket and Guardian is made from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    /// Hash of resources, priority class, scheduler and tolerations.
    pub(crate) hash: TemplateHash,
    /// The same, to be compared with what Tickets ask for.
    pub(crate) demand: Demand,
    /// Requests and limits of the Guardian, defaults applied.
    pub(crate) resources: Resources,
    /// Tolerations of the Guardian, as the user wrote them.
    pub(crate) tolerations: Vec<core::Toleration>,
    /// Priority class of the Guardian.
    pub(crate) priority_class_name: Option<String>,
    /// Scheduler that binds the Guardian.
    pub(crate) scheduler_name: Option<String>,
    /// Length of a window as the user wrote it.
    pub(crate) duration: Option<String>,
    /// What becomes of finished Tickets.
    pub(crate) lifecycle: Lifecycle,
    /// Labels copied to Tickets.
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations copied to Tickets.
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Eq for Template {}

/// How many pairs a roll-out may have without a running Guardian at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MaxUnavailable {
    /// This many, at least 1.
    Count(u32),
    /// This share of the Order's pairs, 0 to 100.
    Percent(u32),
}

impl MaxUnavailable {
    /// The number for an Order with `pairs` pairs: percentages are rounded down, at least 1.
    pub(crate) fn of(self, pairs: u32) -> u32 {
        let count = match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (u64::from(pairs) * u64::from(percent.min(100)) / 100) as u32,
        };
        count.max(1)
    }
}

impl Order {
    /// Compiles an Order as the API server has it.
    pub(crate) fn from_api(order: &api::Order) -> Self {
        let metadata = &order.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        Self {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            key: OrderKey::new(metadata.namespace.as_deref().unwrap_or_default(), name),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata
                .creation_timestamp
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            paused: order.spec.paused,
            spec: compile(name, &order.spec),
        }
    }

    /// An Order that could not be decoded, `error` saying why.
    pub(crate) fn undecodable(
        uid: OrderUid,
        key: OrderKey,
        generation: i64,
        created: Timestamp,
        deleting: bool,
        error: &str,
    ) -> Self {
        let remedy = "compare it with `kubectl explain order.spec` and apply it again";
        Self {
            uid,
            key,
            generation,
            created,
            deleting,
            paused: false,
            spec: Err(vec![Invalid::new(
                "spec",
                format!("cannot be decoded: {error}"),
                remedy,
            )]),
        }
    }
}

/// The problems found so far.
#[derive(Default)]
struct Problems(Vec<Invalid>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Invalid::new(field, problem, remedy));
    }

    fn take<T>(&mut self, result: Result<T, Vec<Invalid>>) -> Option<T> {
        result.map_err(|problems| self.0.extend(problems)).ok()
    }
}

fn compile(name: &str, spec: &api::OrderSpec) -> Result<Spec, Vec<Invalid>> {
    let mut problems = Problems::default();
    let template = &spec.template.spec;
    if name.len() > NAME_LENGTH {
        let problem = format!("has {} characters", name.len());
        problems.add("metadata.name", problem, format!("use at most {NAME_LENGTH}"));
    }
    if !spec.daemon_set {
        problems.add(
            "spec.daemonSet",
            "is not true",
            "only DaemonSet mode is implemented: set it to true",
        );
    }
    let duration = compile_duration(&mut problems, template.duration.as_deref());
    let strategy = compile_strategy(&mut problems, &spec.strategy, template.duration.is_some());
    let max_unavailable = compile_max_unavailable(&mut problems, &spec.update_strategy.max_unavailable);
    check_metadata(&mut problems, &spec.template.metadata);
    let tolerations = compile_tolerations(&mut problems, template);
    let required = template
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let selector = problems.take(NodeSelector::compile(TEMPLATE, &template.node_selector, required));
    let resources = problems.take(resources::compile(
        &format!("{TEMPLATE}.resources"),
        template.resources.as_ref(),
    ));
    check_rest(&mut problems, template);
    match (selector, resources, strategy, max_unavailable) {
        (Some(selector), Some(resources), Some(strategy), Some(max_unavailable)) if problems.0.is_empty() => {
            let template = compile_template(&spec.template, resources, &tolerations);
            Ok(Spec {
                placement: Arc::new(Placement {
                    selector,
                    tolerations,
                }),
                template: Arc::new(template),
                strategy,
                max_unavailable,
                duration,
                start_time: spec.template.spec.start_time.as_ref().map(|time| time.0),
            })
        }
        _ => Err(problems.0),
    }
}

fn compile_template(
    template: &api::order::TicketTemplate,
    resources: Resources,
    tolerations: &[Toleration],
) -> Template {
    let spec = &template.spec;
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let priority_class_name = given(&spec.priority_class_name);
    let scheduler_name = given(&spec.scheduler_name);
    Template {
        hash: template_hash(
            &resources,
            priority_class_name.as_deref(),
            scheduler_name.as_deref(),
            tolerations,
        ),
        demand: Demand::of(
            Some(&resources),
            priority_class_name.as_deref(),
            scheduler_name.as_deref(),
            &spec.tolerations,
        ),
        resources,
        tolerations: spec.tolerations.clone(),
        priority_class_name,
        scheduler_name,
        duration: spec.duration.clone(),
        lifecycle: spec.lifecycle.clone(),
        labels: template.metadata.labels.clone(),
        annotations: template.metadata.annotations.clone(),
    }
}

/// FNV-1a-64 of canonical JSON, in base32. Equal values written differently (`1` and `1000m`, an
/// absent operator and `Equal`) hash alike. Changing what goes in replaces every Guardian of every
/// cluster that upgrades.
fn template_hash(
    resources: &Resources,
    priority_class_name: Option<&str>,
    scheduler_name: Option<&str>,
    tolerations: &[Toleration],
) -> TemplateHash {
    #[derive(Serialize)]
    struct Tolerated<'a> {
        key: &'a str,
        exists: bool,
        value: &'a str,
        effect: Option<&'a str>,
        seconds: Option<i64>,
    }
    #[derive(Serialize)]
    struct Canonical<'a> {
        requests: BTreeMap<&'a str, String>,
        limits: BTreeMap<&'a str, String>,
        priority_class_name: Option<&'a str>,
        scheduler_name: Option<&'a str>,
        tolerations: Vec<Tolerated<'a>>,
    }
    fn amounts(list: &BTreeMap<String, api::Quantity>) -> BTreeMap<&str, String> {
        let nanos = |text: &str| Amount::parse(text).unwrap_or_default().nanos().to_string();
        list.iter()
            .map(|(name, text)| (name.as_str(), nanos(&text.0)))
            .collect()
    }
    let canonical = Canonical {
        requests: amounts(&resources.requests),
        limits: amounts(&resources.limits),
        priority_class_name,
        scheduler_name,
        tolerations: tolerations
            .iter()
            .map(|one| Tolerated {
                key: &one.key,
                exists: one.operator == Operator::Exists,
                value: &one.value,
                effect: one.effect.map(|effect| effect.as_str()),
                seconds: one.seconds,
            })
            .collect(),
    };
    let json = serde_json::to_vec(&canonical).expect("maps with string keys serialize");
    base32(fnv1a64(&json)).into()
}

fn compile_duration(problems: &mut Problems, text: Option<&str>) -> Option<Duration> {
    let (text, field) = (text?, format!("{TEMPLATE}.duration"));
    match duration::parse(text).map(|duration| (duration, Duration::try_from(duration))) {
        Ok((_, Ok(duration))) if !duration.is_zero() => return Some(duration),
        Ok((duration, _)) => {
            let problem = if duration.is_zero() {
                "is zero"
            } else {
                "is negative"
            };
            problems.add(
                field,
                format!("{text:?} {problem}"),
                "use more than zero, or leave it out",
            );
        }
        Err(error @ duration::Error::Overflow) => {
            problems.add(field, format!("{text:?} {error}"), "use less, or leave it out");
        }
        Err(error) => problems.add(
            field,
            format!("{text:?} {error}"),
            "use h, m and s, such as 24h or 1h30m",
        ),
    }
    None
}

fn compile_strategy(
    problems: &mut Problems,
    strategy: &api::order::Strategy,
    has_duration: bool,
) -> Option<Strategy> {
    let schedule = strategy.schedule.as_deref();
    let kind = strategy.kind;
    if kind != StrategyType::OneTime && schedule.is_none() {
        let remedy = "name the ticks as five cron fields, such as \"0 */6 * * *\"";
        problems.add(
            "spec.strategy.schedule",
            format!("is missing for type {kind:?}"),
            remedy,
        );
    }
    if kind == StrategyType::Scheduled && !has_duration {
        let field = format!("{TEMPLATE}.duration");
        problems.add(
            field,
            "is missing for type Scheduled",
            "say how long each window is, such as 8h",
        );
    }
    let schedule = schedule.map(|text| compile_schedule(problems, text));
    let time_zone = compile_time_zone(problems, strategy.time_zone.as_deref());
    Some(Strategy {
        kind,
        schedule: match schedule {
            None => None,
            Some(schedule) => Some(schedule?),
        },
        time_zone: time_zone?,
        refresh_policy: strategy.refresh_policy,
    })
}

fn compile_schedule(problems: &mut Problems, text: &str) -> Option<Schedule> {
    let remedy = |error: &schedule::Error| match error {
        schedule::Error::TimeZone => "use spec.strategy.timeZone",
        schedule::Error::Descriptor => {
            "use @yearly, @monthly, @weekly, @daily or @hourly, or five cron fields"
        }
        schedule::Error::Never => "name a day that one of the months has",
        schedule::Error::Fields(_) | schedule::Error::Field { .. } => {
            "use minute, hour, day of the month, month and day of the week, such as \"0 */6 * * *\""
        }
    };
    text.parse()
        .map_err(|error| {
            problems.add(
                "spec.strategy.schedule",
                format!("{text:?} {error}"),
                remedy(&error),
            )
        })
        .ok()
}

/// Looks the zone up in the bundled database, so that all replicas agree whatever their hosts have.
fn compile_time_zone(problems: &mut Problems, name: Option<&str>) -> Option<TimeZone> {
    let Some(name) = name else {
        return Some(TimeZone::UTC);
    };
    let found = TimeZoneDatabase::bundled().get(name);
    if found.is_err() {
        let remedy = "use a name of the IANA database, such as Europe/Berlin, or leave it out for UTC";
        problems.add(
            "spec.strategy.timeZone",
            format!("{name:?} is not a known time zone"),
            remedy,
        );
    }
    found.ok()
}

fn compile_max_unavailable(problems: &mut Problems, given: &IntOrString) -> Option<MaxUnavailable> {
    let percent = |text: &str| {
        let digits = text.strip_suffix('%')?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|&percent| plain && percent <= 100)
    };
    let count = |count: i32| u32::try_from(count).ok().filter(|&count| count > 0);
    let (found, shown) = match given {
        IntOrString::Int(number) => (count(*number).map(MaxUnavailable::Count), number.to_string()),
        IntOrString::String(text) => (percent(text).map(MaxUnavailable::Percent), format!("{text:?}")),
    };
    if found.is_none() {
        let problem = format!("{shown} is neither a number above 0 nor a percentage up to 100%");
        let remedy = "use a number such as 5 or a text such as \"10%\"; spec.paused stops roll-outs";
        problems.add("spec.updateStrategy.maxUnavailable", problem, remedy);
    }
    found
}

fn compile_tolerations(problems: &mut Problems, template: &TicketTemplateSpec) -> Vec<Toleration> {
    let list = template.tolerations.iter().enumerate();
    list.filter_map(|(index, toleration)| {
        problems.take(Toleration::compile(
            &format!("{TEMPLATE}.tolerations[{index}]"),
            toleration,
        ))
    })
    .collect()
}

fn check_metadata(problems: &mut Problems, metadata: &api::order::TemplateMetadata) {
    let mut key = |field: &str, key: &str| {
        if key.starts_with(KEY_PREFIX) {
            let remedy = format!("{KEY_PREFIX}* keys belong to the controller: use another prefix");
            problems.add(field, "is reserved", remedy);
        } else if let Some(problem) = syntax::label_key(key) {
            problems.add(field, format!("{key:?} {problem}"), syntax::LABEL_KEY_REMEDY);
        }
    };
    for name in metadata.labels.keys() {
        key(&format!("spec.template.metadata.labels[{name}]"), name);
    }
    for name in metadata.annotations.keys() {
        key(&format!("spec.template.metadata.annotations[{name}]"), name);
    }
    for (name, value) in &metadata.labels {
        if let Some(problem) = syntax::label_value(value) {
            let field = format!("spec.template.metadata.labels[{name}]");
            problems.add(field, format!("{value:?} {problem}"), syntax::LABEL_VALUE_REMEDY);
        }
    }
}

fn check_rest(problems: &mut Problems, template: &TicketTemplateSpec) {
    let ttl = template.lifecycle.ttl_seconds_after_finished;
    if ttl < 0 {
        let field = format!("{TEMPLATE}.lifecycle.ttlSecondsAfterFinished");
        problems.add(field, format!("{ttl} is negative"), "use 0 or more seconds");
    }
    let class = template.priority_class_name.as_deref().unwrap_or_default();
    if let Some(problem) = syntax::subdomain(class).filter(|_| !class.is_empty()) {
        let field = format!("{TEMPLATE}.priorityClassName");
        problems.add(field, format!("{class:?} {problem}"), syntax::NAME_REMEDY);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::testing::{api_order, at, order};

    fn valid(spec: Value) -> Spec {
        order("o", spec).spec.unwrap()
    }

    fn problems(spec: Value) -> Vec<String> {
        let problems = order("o", spec).spec.unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    fn template(spec: Value) -> Value {
        json!({ "template": { "spec": spec } })
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let spec = valid(json!({}));
        assert_eq!(*spec.placement, Placement::default());
        assert_eq!(spec.strategy.kind, StrategyType::OneTime);
        assert_eq!(spec.strategy.refresh_policy, RefreshPolicy::OnClaim);
        assert_eq!(spec.strategy.time_zone, TimeZone::UTC);
        assert_eq!(spec.strategy.schedule, None);
        assert_eq!(spec.max_unavailable, MaxUnavailable::Percent(10));
        assert_eq!((spec.duration, spec.start_time), (None, None));
        assert_eq!(spec.template.resources.requests["memory"].0, "128Mi");
    }

    #[test]
    fn the_documented_orders_are_valid() {
        let basic = valid(json!({
            "daemonSet": true,
            "strategy": { "type": "OneTime", "refreshPolicy": "OnClaim" },
            "template": { "spec": {
                "duration": "24h",
                "resources": {
                    "requests": { "cpu": "100m", "memory": "200Mi" },
                    "limits": { "cpu": "200m", "memory": "400Mi" },
                },
                "nodeSelector": { "kubernetes.io/os": "linux" },
                "tolerations": [{ "operator": "Exists", "effect": "NoSchedule" }],
            } },
        }));
        assert_eq!(basic.duration, Some(Duration::from_secs(86_400)));
        let advanced = valid(json!({
            "daemonSet": true,
            "strategy": { "type": "Recurring", "schedule": "0 */6 * * *", "refreshPolicy": "Always" },
            "template": { "spec": {
                "duration": "8h",
                "resources": {
                    "requests": { "cpu": "500m", "memory": "1Gi" },
                    "limits": { "cpu": "1000m", "memory": "2Gi" },
                },
                "nodeSelector": { "accelerator": "nvidia-tesla-k80", "kubernetes.io/os": "linux" },
                "tolerations": [
                    { "key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule" },
                    { "key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule" },
                ],
            } },
        }));
        assert_eq!(advanced.strategy.schedule.unwrap().text(), "0 */6 * * *");
        assert_eq!(advanced.placement.tolerations.len(), 2);
    }

    #[test]
    fn identity_survives_an_invalid_spec() {
        let order = order("o", json!({ "daemonSet": false, "paused": true }));
        assert_eq!(
            (order.uid.as_str(), order.key.to_string()),
            ("o-uid", "default/o".to_owned())
        );
        assert_eq!((order.generation, order.created), (1, at(0)));
        assert!(order.paused && !order.deleting && order.spec.is_err());
    }

    #[test]
    fn an_undecodable_order_says_why() {
        let order = Order::undecodable(
            "u".into(),
            OrderKey::new("default", "o"),
            3,
            at(0),
            true,
            "invalid type",
        );
        assert!(order.deleting);
        let problems = order.spec.unwrap_err();
        let expected = "spec: cannot be decoded: invalid type: compare it with";
        assert!(problems[0].to_string().starts_with(expected), "{problems:?}");
    }

    #[test]
    fn each_problem_names_field_and_remedy() {
        let strategy = |strategy: Value| json!({ "strategy": strategy });
        let metadata = |metadata: Value| json!({ "template": { "metadata": metadata } });
        let unavailable = |value: Value| json!({ "updateStrategy": { "maxUnavailable": value } });
        let duration = |text: &str| template(json!({ "duration": text }));
        for (spec, expected) in [
            (
                json!({ "daemonSet": false }),
                "spec.daemonSet: is not true: only DaemonSet mode is implemented",
            ),
            (
                strategy(json!({ "type": "Recurring" })),
                "spec.strategy.schedule: is missing for type Recurring: name the ticks",
            ),
            (
                json!({ "strategy": { "type": "Scheduled", "schedule": "@daily" } }),
                "spec.template.spec.duration: is missing for type Scheduled: say how long",
            ),
            (
                duration("24x"),
                "spec.template.spec.duration: \"24x\" has an unknown unit: use h, m and s, such as 24h",
            ),
            (
                duration(""),
                "spec.template.spec.duration: \"\" is not a Go duration: use h, m and s",
            ),
            (
                duration("24"),
                "spec.template.spec.duration: \"24\" has a number without a unit: use h, m and s",
            ),
            (
                duration("-1h"),
                "spec.template.spec.duration: \"-1h\" is negative: use more than zero",
            ),
            (
                duration("0s"),
                "spec.template.spec.duration: \"0s\" is zero: use more than zero",
            ),
            (
                duration("9999999999h"),
                "spec.template.spec.duration: \"9999999999h\" is longer than 292 years: use less",
            ),
            (
                duration("5s-3s"),
                "spec.template.spec.duration: \"5s-3s\" has an unknown unit: use h, m and s",
            ),
            (
                strategy(json!({ "schedule": "0 */6 * *" })),
                "spec.strategy.schedule: \"0 */6 * *\" has 4 fields instead of 5: use minute, hour",
            ),
            (
                strategy(json!({ "schedule": "TZ=UTC 0 0 * * *" })),
                "spec.strategy.schedule: \"TZ=UTC 0 0 * * *\" sets a time zone: use spec.strategy.timeZone",
            ),
            (
                strategy(json!({ "timeZone": "Europe/Berlim" })),
                "spec.strategy.timeZone: \"Europe/Berlim\" is not a known time zone: use a name",
            ),
            (
                strategy(json!({ "timeZone": "" })),
                "spec.strategy.timeZone: \"\" is not a known time zone: use a name",
            ),
            (
                strategy(json!({ "timeZone": "Local" })),
                "spec.strategy.timeZone: \"Local\" is not a known time zone",
            ),
            (
                template(json!({ "resources": { "requests": { "cpu": "100x" } } })),
                "spec.template.spec.resources.requests[cpu]: \"100x\" has an unknown suffix: use a number",
            ),
            (
                template(json!({ "nodeSelector": { "os": "a b" } })),
                "spec.template.spec.nodeSelector[os]: \"a b\" has a character other than",
            ),
            (
                template(json!({ "affinity": { "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [] },
                } } })),
                "spec.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution\
                 .nodeSelectorTerms: is empty: name at least one term",
            ),
            (
                template(
                    json!({ "tolerations": [{ "operator": "Exists" }, { "operator": "Gt", "key": "a" }] }),
                ),
                "spec.template.spec.tolerations[1].operator: \"Gt\" is not supported: numeric comparison",
            ),
            (
                metadata(json!({ "labels": { "korder.dev/order": "x" } })),
                "spec.template.metadata.labels[korder.dev/order]: is reserved: korder.dev/* keys belong",
            ),
            (
                metadata(json!({ "annotations": { "korder.dev/x": "any text" } })),
                "spec.template.metadata.annotations[korder.dev/x]: is reserved: korder.dev/* keys belong",
            ),
            (
                metadata(json!({ "labels": { "a b": "x" } })),
                "spec.template.metadata.labels[a b]: \"a b\" has a character",
            ),
            (
                metadata(json!({ "labels": { "a": "x y" } })),
                "spec.template.metadata.labels[a]: \"x y\" has a character",
            ),
            (
                metadata(json!({ "annotations": { "": "x" } })),
                "spec.template.metadata.annotations[]: \"\" is empty",
            ),
            (
                template(json!({ "lifecycle": { "ttlSecondsAfterFinished": -1 } })),
                "spec.template.spec.lifecycle.ttlSecondsAfterFinished: -1 is negative: use 0 or more seconds",
            ),
            (
                template(json!({ "priorityClassName": "High" })),
                "spec.template.spec.priorityClassName: \"High\" is not a DNS name: use at most 253",
            ),
            (
                unavailable(json!("10")),
                "spec.updateStrategy.maxUnavailable: \"10\" is neither a number above 0",
            ),
            (
                unavailable(json!("101%")),
                "spec.updateStrategy.maxUnavailable: \"101%\" is neither a number",
            ),
            (
                unavailable(json!("-5%")),
                "spec.updateStrategy.maxUnavailable: \"-5%\" is neither a number",
            ),
            (
                unavailable(json!("+5%")),
                "spec.updateStrategy.maxUnavailable: \"+5%\" is neither a number",
            ),
            (
                unavailable(json!("%")),
                "spec.updateStrategy.maxUnavailable: \"%\" is neither a number",
            ),
            (
                unavailable(json!("99999999999%")),
                "spec.updateStrategy.maxUnavailable: \"99999999999%\" is neither",
            ),
            (
                unavailable(json!(-1)),
                "spec.updateStrategy.maxUnavailable: -1 is neither a number above 0",
            ),
            (
                unavailable(json!(0)),
                "spec.updateStrategy.maxUnavailable: 0 is neither a number above 0",
            ),
        ] {
            let problems = problems(spec);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{problems:?}, not {expected}");
        }
    }

    #[test]
    fn all_problems_of_a_spec_are_reported() {
        let problems = problems(json!({
            "daemonSet": false,
            "strategy": { "type": "Scheduled", "timeZone": "Mars/Base" },
            "updateStrategy": { "maxUnavailable": "x" },
            "template": {
                "metadata": { "labels": { "korder.dev/a": "b c" } },
                "spec": {
                    "duration": "-1h",
                    "resources": { "requests": { "cpu": "x", "memory": "-1" } },
                    "nodeSelector": { "": "" },
                    "tolerations": [{}, { "key": "a", "effect": "x" }],
                    "lifecycle": { "ttlSecondsAfterFinished": -1 },
                },
            },
        }));
        assert_eq!(problems.len(), 13, "{problems:#?}");
    }

    #[test]
    fn a_name_of_64_characters_is_refused() {
        assert!(order(&"a".repeat(63), json!({})).spec.is_ok());
        let problems = order(&"a".repeat(64), json!({})).spec.unwrap_err();
        assert_eq!(
            problems[0].to_string(),
            "metadata.name: has 64 characters: use at most 63"
        );
    }

    #[test]
    fn time_zones_come_from_the_bundled_database() {
        let spec = valid(
            json!({ "strategy": { "type": "Recurring", "schedule": "@daily", "timeZone": "Europe/Berlin" } }),
        );
        assert_eq!(spec.strategy.time_zone.iana_name(), Some("Europe/Berlin"));
        assert_eq!(
            valid(json!({ "strategy": { "timeZone": "UTC" } }))
                .strategy
                .time_zone,
            TimeZone::UTC
        );
    }

    #[test]
    fn start_time_and_duration_are_read() {
        let spec = valid(template(
            json!({ "startTime": "1970-01-01T01:00:00Z", "duration": "1h30m" }),
        ));
        assert_eq!(spec.start_time, Some(at(3600)));
        assert_eq!(spec.duration, Some(Duration::from_secs(5400)));
        assert_eq!(spec.template.duration.as_deref(), Some("1h30m"));
    }

    #[test]
    fn percentages_are_rounded_down_but_at_least_one() {
        for (max, pairs, expected) in [
            (MaxUnavailable::Percent(10), 0, 1),
            (MaxUnavailable::Percent(10), 19, 1),
            (MaxUnavailable::Percent(10), 20, 2),
            (MaxUnavailable::Percent(0), 1_000, 1),
            (MaxUnavailable::Percent(100), u32::MAX, u32::MAX),
            (MaxUnavailable::Count(7), 3, 7),
        ] {
            assert_eq!(max.of(pairs), expected, "{max:?} of {pairs}");
        }
        let percent = valid(json!({ "updateStrategy": { "maxUnavailable": "25%" } })).max_unavailable;
        assert_eq!(percent, MaxUnavailable::Percent(25));
        let count = valid(json!({ "updateStrategy": { "maxUnavailable": 5 } })).max_unavailable;
        assert_eq!(count, MaxUnavailable::Count(5));
    }

    fn hash(spec: Value) -> String {
        valid(template(spec)).template.hash.to_string()
    }

    /// Another value would replace every Guardian when korder is upgraded. Computed with Python
    /// from the canonical JSON.
    #[test]
    fn the_hash_of_a_template_never_changes() {
        assert_eq!(hash(json!({})), "o3h6s6pt2oxhm");
        let full = json!({
            "priorityClassName": "high",
            "tolerations": [
                { "operator": "Exists", "effect": "NoSchedule" },
                { "key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5 },
            ],
        });
        assert_eq!(hash(full), "q2fdfjs5lnjxo");
    }

    #[test]
    fn the_hash_covers_what_a_guardian_is_made_from_and_nothing_else() {
        let base = hash(json!({}));
        for changed in [
            json!({ "resources": { "requests": { "cpu": "200m" } } }),
            json!({ "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "cpu": "1" } } }),
            json!({ "priorityClassName": "high" }),
            json!({ "schedulerName": "high" }),
            json!({ "tolerations": [{ "operator": "Exists" }] }),
        ] {
            assert_ne!(hash(changed.clone()), base, "{changed}");
        }
        assert_ne!(
            hash(json!({ "priorityClassName": "x" })),
            hash(json!({ "schedulerName": "x" }))
        );
        for same in [
            json!({ "duration": "1h" }),
            json!({ "startTime": "2030-01-01T00:00:00Z" }),
            json!({ "lifecycle": { "cleanupPolicy": "Retain" } }),
            json!({ "nodeSelector": { "a": "b" } }),
            json!({ "priorityClassName": "" }),
            json!({ "resources": { "requests": { "cpu": "0.1", "memory": "134217728" } } }),
        ] {
            assert_eq!(hash(same.clone()), base, "{same}");
        }
    }

    #[test]
    fn the_hash_sees_the_sequence_of_tolerations() {
        let [a, b] = ["a", "b"].map(|key| json!({ "key": key, "operator": "Exists" }));
        assert_ne!(
            hash(json!({ "tolerations": [a, b] })),
            hash(json!({ "tolerations": [b, a] }))
        );
    }

    #[test]
    fn equal_placements_of_different_orders_are_equal() {
        let placed = |extra: Value| {
            let mut spec =
                json!({ "nodeSelector": { "a": "b" }, "tolerations": [{ "key": "k", "value": "v" }] });
            spec.as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            valid(template(spec)).placement
        };
        assert_eq!(
            placed(json!({})),
            placed(json!({ "duration": "1h", "priorityClassName": "x" }))
        );
    }

    #[test]
    fn deletion_is_seen() {
        let mut api = api_order("o", json!({}));
        api.metadata.deletion_timestamp = api.metadata.creation_timestamp.clone();
        assert!(Order::from_api(&api).deleting);
    }
}
