//! Windows in real time: they open and close, Tickets are renewed in place, expire and are cleaned up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use korder::api::{Order, Ticket, ticket::Phase};
use kube::{ResourceExt, api::ListParams};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use testbed::real::{AuditEntry, wait};

use super::{
    disruption::setting,
    expect::Pairs,
    input::event,
    world::{Ground, SOON, condition, now, same},
};
use crate::harness::{Harness, e2e};

const MINUTE: SignedDuration = SignedDuration::from_secs(60);

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        e2e(
            harness,
            "windows",
            "recurring_each_minute_is_renewed_in_place",
            renewed,
        ),
        e2e(
            harness,
            "windows",
            "scheduled_window_of_a_minute_opens_and_closes",
            scheduled,
        ),
        e2e(
            harness,
            "windows",
            "one_time_completes_and_its_tickets_go_after_their_ttl",
            one_time,
        ),
        e2e(
            harness,
            "windows",
            "strategy_edited_in_a_window_moves_its_tickets",
            edited,
        ),
    ]
}

/// A tick that comes once an hour, soon.
async fn scheduled(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    let tick = minute_after(now() + SignedDuration::from_secs(10));
    let minute = tick.strftime("%M").to_string();
    let strategy = json!({ "type": "Scheduled", "schedule": format!("{minute} * * * *") });
    ask(ground, strategy, json!({ "duration": "1m" })).await?;
    let order = ground.ready_reason("order", "OutsideWindow").await?;
    same("nextScheduleTime", &next_schedule_time(&order), &Some(tick))?;
    same("Tickets before", &ground.left().await?, &BTreeSet::new())?;

    until(tick).await;
    let pairs = ground.pairs("order", &all).await?;
    of_window(&pairs, tick, Some(tick + MINUTE))?;
    event(ground, "WindowOpened", &tick.to_string()).await?;

    let end = tick + MINUTE;
    ensure!(now() < end, "too slow to see the window");
    until(end).await;
    let order = ground.ready_reason("order", "OutsideWindow").await?;
    same(
        "nextScheduleTime",
        &next_schedule_time(&order),
        &Some(tick + MINUTE * 60),
    )?;
    let expired = tickets(ground, 3, Phase::Expired).await?;
    for ticket in &expired {
        let status = ticket.status.clone().unwrap_or_default();
        let finished = status.finished_time.context("no finishedTime")?.0;
        ensure!(end <= finished, "finished at {finished}, before {end}");
    }
    guardians(ground, 0).await?;
    same("the sequence", &expired[0].spec.sequence, &0)?;
    event(ground, "WindowClosed", "the next opens at").await
}

async fn one_time(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(3).await?;
    let lifecycle = json!({ "ttlSecondsAfterFinished": 15 });
    let created = ask(
        ground,
        json!({}),
        json!({ "duration": "40s", "lifecycle": lifecycle }),
    )
    .await?;
    let start = created.creation_timestamp().context("no creationTimestamp")?.0;
    let end = start + SignedDuration::from_secs(40);
    let pairs = ground.pairs("order", &all).await?;
    of_window(&pairs, start, Some(end))?;
    event(ground, "Ending", &end.to_string()).await?;

    until(end).await;
    tickets(ground, 3, Phase::Expired).await?;
    guardians(ground, 0).await?;
    let order = ground.ready_reason("order", "Completed").await?;
    let ending = condition(&order, "Ending").map(|ending| ending.status.clone());
    same("the condition Ending", &ending.as_deref(), &Some("True"))?;
    until(end + SignedDuration::from_secs(10)).await;
    tickets(ground, 3, Phase::Expired).await?;
    until(end + SignedDuration::from_secs(15)).await;
    tickets(ground, 0, Phase::Expired).await?;
    event(ground, "TicketsRemoved", "Finished").await
}

async fn edited(ground: &Ground<'_>) -> Result<()> {
    let all = ground.nodes(2).await?;
    let created = ask(ground, json!({}), json!({})).await?;
    let start = created.creation_timestamp().context("no creationTimestamp")?.0;
    let before = ground.pairs("order", &all).await?;
    for (edit, end) in [
        (json!({ "duration": "2h" }), Some(MINUTE * 120)),
        (json!({ "duration": "30m" }), Some(MINUTE * 30)),
        (json!({ "duration": null }), None),
    ] {
        ground.edit_template("order", edit).await?;
        let end = end.map(|end| start + end);
        let what = format!("Tickets to expire at {end:?}");
        let after = wait::until(SOON, &what, async || {
            let pairs = ground.pairs("order", &all).await?;
            of_window(&pairs, start, end)?;
            anyhow::Ok(pairs)
        });
        kept(&before, &after.await?)?;
    }
    let wrong = json!({ "strategy": { "type": "Scheduled", "schedule": "0 0 31 2 *" }, "template": { "spec": { "duration": "1h" } } });
    ground.edit("order", wrong).await?;
    ground.ready_reason("order", "InvalidSpec").await?;
    tickets(ground, 2, Phase::Reserved).await.map(|_| ())
}

/// E2E_NODES nodes (50) through E2E_TICKS ticks (2).
async fn renewed(ground: &Ground<'_>) -> Result<()> {
    let (count, ticks) = (setting("E2E_NODES", 50), setting("E2E_TICKS", 2));
    let names = ground.nodes(count).await?;
    let mut order = ground.order("order", json!({}));
    order["spec"]["strategy"] = json!({ "type": "Recurring", "schedule": "* * * * *" });
    ground.create(&order).await?;
    ground.all_reserved(count).await?;
    let before = ground.pairs("order", &names).await?;

    // Half a minute for the renewals of each window, and some seconds for a clock that is behind.
    let spread = SignedDuration::from_secs(40);
    let start = minute_after(now());
    until(start - SignedDuration::from_secs(3)).await;
    let mark = ground.audit().settled_mark().await?;
    until(start + MINUTE * (ticks - 1) + spread).await;
    let writes = ground.writes(mark).await?;
    let after = ground.pairs("order", &names).await?;
    kept(&before, &after)?;
    same("the number of pairs", &after.len(), &count)?;
    of_window(&after, start + MINUTE * (ticks - 1), Some(start + MINUTE * ticks))?;
    one_each(&writes, &after, start, ticks)
}

/// One write per Ticket and tick, and nothing else; each window's within its first half minute.
fn one_each(writes: &[AuditEntry], pairs: &Pairs, start: Timestamp, ticks: i32) -> Result<()> {
    let mut seen = BTreeMap::<(&str, Timestamp), u32>::new();
    let mut latest = SignedDuration::ZERO;
    for write in writes {
        let patch = (
            write.verb.as_str(),
            write.resource.as_str(),
            write.subresource.as_str(),
        );
        same("a write", &patch, &("patch", "tickets", "status"))?;
        same("its outcome", &write.code, &200)?;
        let body: Value = serde_json::from_str(write.request.as_deref().context("no body")?)?;
        let status = body["status"].as_object().context("no status")?;
        let fields: Vec<&str> = status.keys().map(String::as_str).collect();
        same("what it names", &fields, &vec!["expirationTime", "windowStart"])?;
        let window: Timestamp = status["windowStart"].as_str().unwrap_or_default().parse()?;
        latest = latest.max(write.completed.duration_since(window));
        *seen.entry((&write.name, window)).or_default() += 1;
    }
    let names: Vec<String> = pairs.values().map(|pair| pair.ticket_name()).collect();
    let each = names.iter().flat_map(|name| {
        let windows = (0..ticks).map(|tick| start + MINUTE * tick);
        windows.map(move |window| ((name.as_str(), window), 1))
    });
    let missing: Vec<_> = each
        .clone()
        .filter(|(one, _)| !seen.contains_key(one))
        .take(3)
        .collect();
    ensure!(missing.is_empty(), "not renewed: {missing:?}");
    same("the writes", &seen, &each.collect())?;
    eprintln!(
        "{} Tickets through {ticks} ticks: {} writes, the last {latest:#} after its tick; no other write, no Guardian touched",
        names.len(),
        writes.len(),
    );
    // Half of it, and what a slow machine needs.
    let half = MINUTE * 3 / 4;
    ensure!(latest < half, "renewed {latest:#} after the tick");
    Ok(())
}

/// The Order `order` with this strategy.
async fn ask(ground: &Ground<'_>, strategy: Value, template: Value) -> Result<Order> {
    let mut order = ground.order("order", template);
    order["spec"]["strategy"] = strategy;
    ground.create(&order).await.context("cannot create the Order")
}

fn minute_after(at: Timestamp) -> Timestamp {
    let second = (at.as_second().div_euclid(60) + 1) * 60;
    Timestamp::from_second(second).expect("a time of this century")
}

fn next_schedule_time(order: &Order) -> Option<Timestamp> {
    let status = order.status.as_ref()?;
    status.next_schedule_time.as_ref().map(|next| next.0)
}

/// Waits for a time; windows are bound to it.
async fn until(at: Timestamp) {
    let left = Duration::try_from(at.duration_since(now())).unwrap_or_default();
    tokio::time::sleep(left).await;
}

/// That all Tickets say this window.
fn of_window(pairs: &Pairs, start: Timestamp, end: Option<Timestamp>) -> Result<()> {
    for pair in pairs.values() {
        let status = pair.ticket.status.clone().unwrap_or_default();
        let said = [status.window_start, status.expiration_time].map(|time| time.map(|time| time.0));
        same("the window", &said, &[Some(start), end])?;
    }
    Ok(())
}

/// That Tickets and Guardians are the same objects.
fn kept(before: &Pairs, after: &Pairs) -> Result<()> {
    let uids = |pairs: &Pairs| -> Vec<_> {
        let uids = pairs.values();
        uids.map(|pair| (pair.ticket_uid().to_owned(), pair.guardian_uid().to_owned()))
            .collect()
    };
    same("the pairs' uids", &uids(after), &uids(before))
}

/// Waits until these are all Tickets, and of this phase.
async fn tickets(ground: &Ground<'_>, count: usize, phase: Phase) -> Result<Vec<Ticket>> {
    counted(&format!("{count} Tickets, {phase:?}"), count, async || {
        let tickets = ground.api::<Ticket>().list(&ListParams::default()).await?.items;
        let other = |ticket: &&Ticket| ticket.status.as_ref().is_none_or(|status| status.phase != phase);
        let other = tickets
            .iter()
            .find(other)
            .map(|other| (other.name_any(), other.status.clone()));
        same("another Ticket", &other, &None)?;
        Ok(tickets)
    })
    .await
}

async fn guardians(ground: &Ground<'_>, count: usize) -> Result<Vec<Pod>> {
    let guardians = ListParams::default().labels("korder.dev/guardian");
    counted(&format!("{count} Guardians"), count, async || {
        Ok(ground.api::<Pod>().list(&guardians).await?.items)
    })
    .await
}

async fn counted<T: Debug>(
    what: &str,
    count: usize,
    look: impl AsyncFn() -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    wait::until(SOON, what, async || {
        let seen = look().await?;
        same("their number", &seen.len(), &count)?;
        anyhow::Ok(seen)
    })
    .await
}
