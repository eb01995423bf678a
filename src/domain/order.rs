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

pub use super::invalid::Invalid;
use super::{
    duration,
    eligibility::Placement,
    hash::{base32, fnv1a64},
    ids::{OrderKey, OrderUid, TemplateHash},
    quantity::Amount,
    resources,
    schedule::{self, Schedule},
    selector::NodeSelector,
    syntax,
    toleration::{Operator, Toleration},
};
use crate::api::{
    self, KEY_PREFIX,
    order::{Lifecycle, RefreshPolicy, Resources, StrategyType, TicketTemplateSpec},
};

/// Longest name of an Order: it is the value of a label.
const NAME_LENGTH: usize = 63;
/// Field of the template's spec.
const TEMPLATE: &str = "spec.template.spec";

/// An Order as the rules read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// `metadata.uid`.
    pub uid: OrderUid,
    /// Namespace and name.
    pub key: OrderKey,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `spec.paused`; also of an Order whose spec is invalid.
    pub paused: bool,
    /// What it asks for, or everything that is wrong with it (never empty).
    pub spec: Result<Spec, Vec<Invalid>>,
}

/// What a valid Order asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// On which nodes.
    pub placement: Arc<Placement>,
    /// What each Ticket and Guardian is made from.
    pub template: Arc<Template>,
    /// When room is held, and what follows a claim.
    pub strategy: Strategy,
    /// How many pairs a roll-out may have without a running Guardian.
    pub max_unavailable: MaxUnavailable,
    /// Length of a window, more than zero.
    pub duration: Option<Duration>,
    /// No room is held before this time.
    pub start_time: Option<Timestamp>,
}

/// When room is held, and what follows a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// The shape of the windows.
    pub kind: StrategyType,
    /// The ticks; present unless the type is `OneTime`.
    pub schedule: Option<Schedule>,
    /// The time zone of the schedule.
    pub time_zone: TimeZone,
    /// When a pair gets a new Ticket after a claim.
    pub refresh_policy: RefreshPolicy,
}

/// What each Ticket and Guardian is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Hash of resources, priority class, scheduler and tolerations.
    pub hash: TemplateHash,
    /// Requests and limits of the Guardian, defaults applied.
    pub resources: Resources,
    /// Tolerations of the Guardian, as the user wrote them.
    pub tolerations: Vec<core::Toleration>,
    /// Priority class of the Guardian.
    pub priority_class_name: Option<String>,
    /// Scheduler that binds the Guardian.
    pub scheduler_name: Option<String>,
    /// Length of a window as the user wrote it.
    pub duration: Option<String>,
    /// What becomes of finished Tickets.
    pub lifecycle: Lifecycle,
    /// Labels copied to Tickets.
    pub labels: BTreeMap<String, String>,
    /// Annotations copied to Tickets.
    pub annotations: BTreeMap<String, String>,
}

impl Eq for Template {}

/// How many pairs a roll-out may have without a running Guardian at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaxUnavailable {
    /// This many, at least 1.
    Count(u32),
    /// This share of the Order's pairs, 0 to 100.
    Percent(u32),
}

impl MaxUnavailable {
    /// The number for an Order with `pairs` pairs: percentages are rounded down, at least 1.
    pub fn of(self, pairs: u32) -> u32 {
        let count = match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (u64::from(pairs) * u64::from(percent.min(100)) / 100) as u32,
        };
        count.max(1)
    }
}

impl Order {
    /// Compiles an Order as the API server has it.
    pub fn from_api(order: &api::Order) -> Self {
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
    pub fn undecodable(
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
