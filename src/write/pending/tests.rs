//! The write client against an API server that is a function, in virtual time.

use std::{future::Future, sync::Arc, time::Duration};

use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams, client::Body};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use super::Pending;
use crate::{
    env::clock::Clock,
    queue::Lane,
    write::{Writer, testing::writer},
};

/// A clock, a writer whose requests `serve` answers, and its line.
fn rig<F>(serve: impl Fn(Request<Body>) -> F + Clone + Send + 'static) -> (Clock, Writer, Arc<Pending>)
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let clock = Clock::system();
    let (writer, pending) = writer(1, &clock, serve);
    (clock, writer, pending)
}

fn created() -> Response<Body> {
    Response::new(Body::from(
        json!({ "metadata": { "name": "c" } }).to_string().into_bytes(),
    ))
}

/// As API Priority and Fairness says it.
fn too_many() -> Response<Body> {
    let body = Body::from(b"Too many requests, please try again later.\n".to_vec());
    let answer = Response::builder().status(429).header("Retry-After", "3");
    answer.body(body).unwrap()
}

async fn write(writer: Writer, lane: Lane) -> bool {
    let api: Api<ConfigMap> = Api::namespaced(writer.client.clone(), "ns");
    let writer = writer.in_lane(lane);
    writer
        .ask(api.create(&PostParams::default(), &ConfigMap::default()))
        .await
        .is_ok()
}

/// When requests came, by this clock, in milliseconds.
type Times = Arc<Mutex<Vec<u128>>>;

#[tokio::test(start_paused = true)]
async fn no_request_starts_before_the_retry_after_of_the_header_has_passed() {
    let times = Times::default();
    let (seen, watch) = (times.clone(), Clock::system());
    let (_, writer, _) = rig(move |_| {
        let mut seen = seen.lock();
        seen.push(watch.mono().0.as_millis());
        let answer = if seen.len() == 2 { too_many() } else { created() };
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            answer
        }
    });
    let mut writes = JoinSet::new();
    for _ in 0..60 {
        writes.spawn(write(writer.clone(), Lane::Create));
    }
    let landed = writes
        .join_all()
        .await
        .into_iter()
        .filter(|landed| *landed)
        .count();
    let times = times.lock();
    assert_eq!((landed, times.len()), (59, 60));
    assert!(times[..24].iter().all(|&at| at == 0), "{times:?}");
    assert!(times[24..].iter().all(|&at| at >= 3010), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_to_the_wire_when_the_gate_closed_waits_too() {
    let times = Times::default();
    let (seen, watch) = (times.clone(), Clock::system());
    let (_, writer, pending) = rig(move |_| {
        seen.lock().push(watch.mono().0.as_millis());
        std::future::ready(created())
    });
    let permit = pending.turn(Lane::Create).await;
    let api: Api<ConfigMap> = Api::namespaced(writer.client.clone(), "ns");
    pending.close(Duration::from_secs(2));
    api.create(&PostParams::default(), &ConfigMap::default())
        .await
        .unwrap();
    drop(permit);
    assert_eq!(*times.lock(), [2000]);
}

#[tokio::test(start_paused = true)]
async fn turns_come_in_the_order_of_lanes_and_a_place_that_is_given_up_holds_up_nobody() {
    let (clock, _, pending) = rig(|_| std::future::ready(created()));
    pending.close(Duration::from_secs(1));
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = JoinSet::new();
    for lane in [
        Lane::Create,
        Lane::Delete,
        Lane::Guardian,
        Lane::Settle,
        Lane::Create,
    ] {
        let (pending, order) = (pending.clone(), order.clone());
        waiting.spawn(async move {
            let _permit = pending.turn(lane).await;
            order.lock().push(lane);
        });
    }
    let impatient = tokio::time::timeout(Duration::from_millis(500), pending.turn(Lane::Settle));
    assert!(impatient.await.is_err());
    waiting.join_all().await;
    let expected = [
        Lane::Settle,
        Lane::Delete,
        Lane::Guardian,
        Lane::Create,
        Lane::Create,
    ];
    assert_eq!(*order.lock(), expected);
    assert_eq!(clock.mono().0.as_secs(), 1);
    assert_eq!(pending.state.lock().queue.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_ever_less_and_full_speed_is_back_after_it() {
    let times = Times::default();
    let (seen, watch) = (times.clone(), Clock::system());
    let (clock, writer, _) = rig(move |_| {
        let at = watch.mono().0;
        seen.lock().push(at.as_millis());
        async move {
            if at < Duration::from_secs(60) {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            created()
        }
    });
    let mut writes = JoinSet::new();
    for _ in 0..200 {
        let writer = writer.clone();
        writes.spawn(async move { while !write(writer.clone(), Lane::Create).await {} });
    }
    clock
        .sleep_until(Some(crate::domain::values::time::Mono(Duration::from_secs(60))))
        .await;
    let asked = times.lock().len();
    assert!(asked < 80, "asked {asked} times in vain");
    writes.join_all().await;
    assert!(clock.mono().0 < Duration::from_secs(90), "{:?}", clock.mono());
}
