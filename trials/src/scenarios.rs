//! Five plots without chance, for sweeps that break them at every single point.

use serde_json::json;

use super::{
    full,
    run::{Kind, Options},
    script::{Script, Step, nth_node, template},
};
use testbed::sim::actors::{nodes::Fortune, users::order};

/// Seeds that once went wrong, and what korder did.
const REGRESSIONS: &[(u64, &str)] = &[
    (17, "a_list_that_was_never_answered_kept_a_watch_from_starting"),
    (57, "a_guardian_without_labels_kept_the_size_of_the_old_template"),
    (177, "a_guardian_without_labels_at_a_restart_kept_the_old_size"),
    (386, "a_ticket_that_lost_its_labels_was_taken_for_removed"),
    (388, "a_drain_waited_for_a_read_behind_a_status"),
    (541, "a_guardian_that_was_gone_was_asked_for_for_ever"),
    (
        1_795_400_577_001_315,
        "an_old_answer_brought_back_a_guardian_that_was_gone",
    ),
    (
        1_795_399_642_000_504,
        "a_ticket_without_guardian_stayed_reserved_until_its_turn_in_the_roll_out",
    ),
    (
        1_795_401_843_001_188,
        "a_guardian_that_came_and_went_between_two_lists_was_believed_in_for_ever",
    ),
    (
        1_016_487,
        "a_stale_list_showed_an_older_ticket_and_the_guardian_of_the_newer_was_removed",
    ),
    (
        2_000_267,
        "a_ticket_without_labels_was_made_again_before_those_had_been_listed",
    ),
    (15_729, "an_older_ticket_of_the_same_name_was_asked_for_for_ever"),
    (
        8_008_192,
        "an_older_ticket_that_the_other_watch_showed_late_took_the_place_of_the_newer",
    ),
    (8_013_129, "an_older_status_that_landed_last_stayed"),
    (
        7_004_118,
        "a_restart_let_a_roll_out_begin_before_all_shards_were_counted",
    ),
    (
        80_247,
        "nodes_of_others_in_an_answer_without_selector_seemed_gone_later",
    ),
    (80_449, "a_late_lease_of_a_drained_process_ended_its_successor"),
];

/// Seeds that once went wrong with three replicas, and what those did.
const SHARED_REGRESSIONS: &[(u64, &str)] = &[
    (4, "a_shard_taken_later_did_not_hear_of_tickets_without_labels"),
    (
        254,
        "watches_that_were_replaced_before_they_had_listed_kept_their_shards_from_starting",
    ),
    (299, "the_tickets_of_an_order_were_removed_in_no_shards_at_all"),
    (882, "the_end_of_a_page_took_its_successor_with_it"),
    (
        202_989,
        "a_watch_of_nodes_that_was_replaced_twice_before_it_had_listed_kept_a_shard_from_starting",
    ),
];

/// Seeds with windows that once went wrong.
const TIMED_REGRESSIONS: &[(u64, &str)] = &[
    (500_260, "a_guardian_without_labels_outlived_its_expired_ticket"),
    (
        21_001_381,
        "a_ticket_that_lost_its_labels_between_two_lists_was_made_again",
    ),
    (
        23_001_401,
        "a_guardian_without_labels_under_the_other_name_outlived_its_expired_ticket",
    ),
    (
        31_000_815,
        "a_guardian_known_to_have_lost_its_labels_outlived_its_expired_ticket",
    ),
];

/// Seeds with windows that once went wrong with three replicas.
const SHARED_TIMED_REGRESSIONS: &[(u64, &str)] = &[
    (1_900_348, "the_memory_of_a_pair_went_with_the_ticket_after_it"),
    (
        22_000_095,
        "a_ticket_that_had_expired_meanwhile_was_removed_as_an_open_one",
    ),
    (
        910_003_236,
        "a_watch_of_nodes_was_refused_for_load_until_what_it_had_shown_was_long_past",
    ),
];

/// Seeds of roll-outs on full nodes that once went wrong.
const FULL_REGRESSIONS: &[(u64, &str)] = &[
    (
        1_795_463_394_000_009,
        "a_new_guardian_without_labels_stayed_when_the_template_was_edited_back",
    ),
    (
        1_795_472_751_000_036,
        "an_old_list_cost_the_guardian_that_had_taken_over",
    ),
];

/// Seeds of roll-outs on full nodes that once went wrong with three replicas.
const SHARED_FULL_REGRESSIONS: &[(u64, &str)] = &[(
    610_017,
    "of_two_guardians_that_fit_the_one_that_held_the_room_went",
)];

/// All seeds that once went wrong, with how they ran and what korder did.
pub fn regressions() -> impl Iterator<Item = (u64, Options, &'static str)> {
    let options = |replicas, kind| Options {
        replicas,
        kind,
        ..Options::default()
    };
    let all = [
        (REGRESSIONS, options(1, Kind::Any)),
        (SHARED_REGRESSIONS, options(3, Kind::Any)),
        (TIMED_REGRESSIONS, options(1, Kind::Timed)),
        (SHARED_TIMED_REGRESSIONS, options(3, Kind::Timed)),
        (FULL_REGRESSIONS, options(1, Kind::Full)),
        (SHARED_FULL_REGRESSIONS, options(3, Kind::Full)),
    ];
    all.into_iter()
        .flat_map(|(seeds, options)| seeds.iter().map(move |&(seed, what)| (seed, options, what)))
}

/// All of them.
pub fn all() -> Vec<Script> {
    vec![
        reserve(),
        churn(),
        roll_out(),
        full_nodes(),
        order_goes(),
        meddling(),
    ]
}

/// Two Orders on five nodes, one of which joins late.
fn reserve() -> Script {
    Script::quiet("reserve", 4)
        .at(1, Step::Order(order("agents", &template(0))))
        .at(1, Step::Order(order("zone-a", &template(1))))
        .at(6, Step::Join(nth_node(6)))
        .at(20, Step::Seats(None, std::time::Duration::ZERO))
}

/// Nodes are cordoned, tainted, relabelled, lost, replaced.
fn churn() -> Script {
    let befall = |n: usize, fortune| Step::Befall(format!("node-{n}"), fortune);
    Script::quiet("churn", 5)
        .at(1, Step::Order(order("zone-a", &template(1))))
        .at(1, Step::Order(order("agents", &template(2))))
        .at(10, befall(0, Fortune::Cordon(true)))
        .at(11, befall(1, Fortune::Taint("maintenance", "now", "NoExecute")))
        .at(
            12,
            befall(2, Fortune::Label("topology.kubernetes.io/zone", Some("a"))),
        )
        .at(13, befall(3, Fortune::Ready("Unknown")))
        .at(20, befall(0, Fortune::Cordon(false)))
        .at(25, befall(4, Fortune::Leave))
        .at(26, befall(2, Fortune::Again))
        .at(90, befall(3, Fortune::Ready("True")))
        .at(100, befall(1, Fortune::Untaint("maintenance")))
}

/// A template changes twice.
fn roll_out() -> Script {
    let size = |cpu: &str| json!({ "spec": { "template": { "spec": { "resources": { "requests": { "cpu": cpu } } } } } });
    Script::quiet("roll-out", 3)
        .at(1, Step::Order(order("agents", &template(0))))
        .at(8, Step::Edit("agents".to_owned(), size("200m")))
        .at(40, Step::Edit("agents".to_owned(), size("300m")))
        .at(80, Step::Seats(None, std::time::Duration::ZERO))
}

/// Templates change on full nodes: smaller, back midway, with one more toleration and without it.
fn full_nodes() -> Script {
    let tolerations = |keys: &[&str]| {
        let all: Vec<_> = keys.iter().map(|key| json!({ "key": key })).collect();
        json!({ "tolerations": all })
    };
    full::quiet("full-nodes", 3, 2)
        .at(31, full::edit(full::cpu("900m")))
        .at(60, full::edit(full::cpu("800m")))
        .at(61, full::edit(full::cpu("1")))
        .at(90, full::edit(tolerations(&["a"])))
        .at(100, full::edit(tolerations(&["b"])))
        .at(130, Step::Seats(None, std::time::Duration::ZERO))
}

/// An Order goes, and another of its name comes.
fn order_goes() -> Script {
    Script::quiet("order-goes", 4)
        .at(1, Step::Order(order("agents", &template(0))))
        .at(8, Step::DeleteOrder("agents".to_owned()))
        .at(9, Step::Order(order("agents", &template(1))))
        .at(20, Step::DeleteOrder("agents".to_owned()))
}

/// Users delete, strip and evict what korder has made.
fn meddling() -> Script {
    Script::quiet("meddling", 3)
        .at(1, Step::Order(order("agents", &template(0))))
        .at(6, Step::DeleteTicket(0))
        .at(8, Step::DeleteGuardian(1))
        .at(10, Step::Evict(2))
        .at(14, Step::StripTicket(1))
        .at(16, Step::StripGuardian(0))
        .at(
            20,
            Step::Workload("load".to_owned(), "3500m".to_owned(), Some("node-1".to_owned())),
        )
        .at(22, Step::DeleteGuardian(1))
        .at(40, Step::DeleteWorkload("load".to_owned()))
}
