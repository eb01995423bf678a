//! Runs one case on both arms, step by step, and says where they first differ.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    arm::{Answered, Arm, Real, RealWatch, Simulated, SimulatedWatch},
    step::{Call, Case, Step},
};

/// At most this many unequal fields are shown.
const SHOWN: usize = 12;

/// How much was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compared {
    pub(crate) requests: usize,
    pub(crate) events: usize,
}

/// One case while it runs.
struct Run<'a> {
    simulated: Arm<Simulated>,
    real: Arm<Real<'a>>,
    watches: BTreeMap<String, Option<(SimulatedWatch, RealWatch)>>,
    compared: Compared,
}

/// Runs the steps; `Err` in the outcome describes the first difference.
///
/// # Errors
/// When the real server cannot be asked.
pub(crate) async fn run(
    simulated: Simulated,
    real: Real<'_>,
    id: &str,
    case: &Case,
) -> Result<Result<Compared, String>> {
    let mut run = Run {
        simulated: Arm::new(simulated, id),
        real: Arm::new(real, id),
        watches: BTreeMap::new(),
        compared: Compared::default(),
    };
    for (at, step) in case.steps.iter().enumerate() {
        let done = run.step(step).await.with_context(|| described(at, step))?;
        if let Err(difference) = done {
            return Ok(Err(format!("{}\n{difference}", described(at, step))));
        }
    }
    Ok(Ok(run.compared))
}

fn described(at: usize, step: &Step) -> String {
    format!("step {at}: {}", line(step))
}

/// A step on one line, as a person would write it.
pub(crate) fn line(step: &Step) -> String {
    let call = |call: &Call| {
        let body = match &call.body {
            crate::step::Body::None => String::new(),
            crate::step::Body::Json(value) => format!(" {value}"),
            crate::step::Body::Text(text) => format!(" {text:?}"),
            crate::step::Body::Seen(key, change) => format!(" <{key}> with {change}"),
        };
        format!("{} {}{body}", call.method, call.target)
    };
    match step {
        Step::Ask(_, asked) => call(asked),
        Step::Prepare(asked) => format!("prepare: {}", call(asked)),
        Step::Watch(name, asked) => format!("watch {name}: {}", call(asked)),
        Step::Forget => "forget the history".to_owned(),
        Step::Collect(name, end) => format!("collect {name} up to {end}"),
    }
}

impl Run<'_> {
    async fn step(&mut self, step: &Step) -> Result<Result<(), String>> {
        match step {
            Step::Ask(code, call) => {
                self.compared.requests += 1;
                let simulated = self.simulated.ask(call).await?;
                let real = self.real.ask(call).await?;
                Ok(equal(&simulated, &real, *code))
            }
            Step::Prepare(call) => {
                self.real.prepare(call).await?;
                Ok(Ok(()))
            }
            Step::Watch(name, call) => {
                self.compared.requests += 1;
                let simulated = self.simulated.open(call).await?;
                let real = self.real.open(call).await?;
                let opened = match (simulated, real) {
                    (Ok(simulated), Ok(real)) => Some((simulated, real)),
                    (Err(simulated), Err(real)) => {
                        if let Err(difference) = equal(&simulated, &real, None) {
                            return Ok(Err(difference));
                        }
                        None
                    }
                    (Ok(_), Err(real)) => return Ok(Err(format!("simulated: a watch\nreal: {real:?}"))),
                    (Err(simulated), Ok(_)) => {
                        return Ok(Err(format!("simulated: {simulated:?}\nreal: a watch")));
                    }
                };
                self.watches.insert(name.clone(), opened);
                Ok(Ok(()))
            }
            Step::Forget => {
                self.simulated.forget().await?;
                self.real.forget().await?;
                Ok(Ok(()))
            }
            Step::Collect(name, end) => {
                let Some((simulated, real)) = self.watches.remove(name).flatten() else {
                    return Ok(Ok(()));
                };
                let simulated = self.simulated.collect(simulated, end).await?;
                let real = self.real.collect(real, end).await?;
                self.compared.events += real.len();
                Ok(same_events(&simulated, &real))
            }
        }
    }
}

fn equal(simulated: &Answered, real: &Answered, code: Option<u16>) -> Result<(), String> {
    let mut text = String::new();
    if simulated.code != real.code || simulated.retry_after != real.retry_after {
        let show = |answer: &Answered| format!("{} retry-after {:?}", answer.code, answer.retry_after);
        writeln!(text, "simulated: {}\n     real: {}", show(simulated), show(real)).expect("a String");
        writeln!(text, "simulated: {}\n     real: {}", simulated.body, real.body).expect("a String");
        return Err(text);
    }
    if let Some(code) = code.filter(|code| *code != real.code) {
        return Err(format!(
            "both answer {} instead of {code}: {}",
            real.code, real.body
        ));
    }
    let mut differences = Vec::new();
    differ("", &simulated.body, &real.body, &mut differences);
    if differences.is_empty() {
        return Ok(());
    }
    Err(differences.join("\n"))
}

fn same_events(simulated: &[Value], real: &[Value]) -> Result<(), String> {
    let mut differences = Vec::new();
    for (at, (simulated, real)) in simulated.iter().zip(real).enumerate() {
        differ(&format!("/{at}"), simulated, real, &mut differences);
    }
    if differences.is_empty() && simulated.len() == real.len() {
        return Ok(());
    }
    let list = |events: &[Value]| events.iter().map(brief).collect::<Vec<_>>().join(" ");
    Err(format!(
        "simulated: {}\n     real: {}\n{}",
        list(simulated),
        list(real),
        differences.join("\n")
    ))
}

fn brief(event: &Value) -> String {
    let metadata = &event["object"]["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let revision = metadata["resourceVersion"].as_str().unwrap_or_default();
    format!("{}({name} {revision})", event["type"].as_str().unwrap_or("?"))
}

/// Adds a line for every path at which the two differ.
fn differ(path: &str, simulated: &Value, real: &Value, out: &mut Vec<String>) {
    if out.len() >= SHOWN || simulated == real {
        return;
    }
    match (simulated, real) {
        (Value::Object(left), Value::Object(right)) => {
            let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let absent = Value::from("<absent>");
                let (left, right) = (left.get(name), right.get(name));
                let path = format!("{path}/{name}");
                differ(&path, left.unwrap_or(&absent), right.unwrap_or(&absent), out);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (at, (left, right)) in left.iter().zip(right).enumerate() {
                differ(&format!("{path}/{at}"), left, right, out);
            }
        }
        _ => out.push(format!("{path}\n  simulated: {simulated}\n       real: {real}")),
    }
}
