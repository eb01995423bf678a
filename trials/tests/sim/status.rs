//! What the counts of thousands of Orders cost, and that they are true.

use libtest_mimic::{Failed, Trial};
use trials::status::{Figures, Part, Size, Written, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![crate::trial(
        "status::counts_of_thousands_of_orders_are_true_and_cheap",
        counts,
    )]
}

/// What etcd takes at most by default, in bytes.
const ETCD: usize = 3 * 512 * 1024;

/// `SIM_ORDERS` says how many Orders (5000), `SIM_CHANGES` how many nodes change a second (2), `SIM_REPLICAS`
/// how many replicas there are (3).
fn counts() -> Result<(), Failed> {
    let number = |name: &str, unless_said: usize| {
        let said = std::env::var(name).ok();
        said.and_then(|text| text.parse().ok()).unwrap_or(unless_said)
    };
    let orders = number("SIM_ORDERS", 5000);
    let size = Size {
        orders,
        nodes: (orders / 10).max(256),
        replicas: number("SIM_REPLICAS", 3),
        changes: u32::try_from(number("SIM_CHANGES", 2))?.max(1),
    };
    let figures = trial(size, 1);
    print(size, &figures);
    judge(size, &figures)
}

fn judge(size: Size, figures: &Figures) -> Result<(), Failed> {
    crate::judged(&figures.violations)?;
    crate::judged(&figures.untrue)?;
    let mut wrong = Vec::new();
    let largest = figures
        .pages
        .iter()
        .chain(&figures.totals)
        .max()
        .copied()
        .unwrap_or_default();
    if largest * 10 > ETCD {
        wrong.push(format!("an object of {largest} bytes"));
    }
    if figures.totals.len() != 64 || figures.pages.len() * 500 < 64 * size.orders {
        wrong.push(format!(
            "{} shards, {} pages",
            figures.totals.len(),
            figures.pages.len()
        ));
    }
    for (what, least) in [
        (Written::Totals, 2.0),
        (Written::Page, 2.0),
        (Written::Order, 1.0),
    ] {
        match figures.closest.get(&what) {
            Some(closest) if *closest >= least => {}
            closest => wrong.push(format!("{what:?} written twice within {closest:?} s")),
        }
        let writes = |part: &Part| part.flows.get(&what).map_or(0, |flow| flow.writes);
        if writes(&figures.churn) == 0 || writes(&figures.rest) != 0 {
            let (churn, rest) = (writes(&figures.churn), writes(&figures.rest));
            wrong.push(format!(
                "{what:?}: {churn} writes during the churn, {rest} at rest"
            ));
        }
    }
    crate::judged(&wrong)
}

fn print(size: Size, figures: &Figures) {
    let Size {
        orders,
        nodes,
        replicas,
        changes,
    } = size;
    println!(
        "{orders} Orders, {nodes} nodes, {replicas} replicas, 64 shards, {changes} node changes a second"
    );
    for (what, sizes) in [("Shards", &figures.totals), ("pages", &figures.pages)] {
        let (sum, most) = (sizes.iter().sum::<usize>(), sizes.iter().max().copied());
        let mean = sum / sizes.len().max(1);
        println!(
            "  {:>4} {what}: {mean} bytes each, {} at most, {:.1} MB in all",
            sizes.len(),
            most.unwrap_or_default(),
            sum as f64 / 1e6
        );
    }
    println!(
        "  {:12}{:>8}{:>13}{:>13}{:>11}{:>13}",
        "a second", "span", "writes", "kB written", "objects", "most of one"
    );
    for (name, part) in [
        ("filling", &figures.filling),
        ("churn", &figures.churn),
        ("rest", &figures.rest),
    ] {
        let seconds = part.span.as_secs_f64();
        println!(
            "  {name:12}{seconds:>6.0} s{:>13.1}  changes of Tickets and Pods",
            part.pairs as f64 / seconds
        );
        for (what, flow) in &part.flows {
            println!(
                "    {:10}{:>21.1}{:>13.1}{:>11}{:>13.2}",
                format!("{what:?}"),
                flow.writes as f64 / seconds,
                flow.bytes as f64 / 1e3 / seconds,
                flow.objects.len(),
                flow.objects.values().max().copied().unwrap_or_default() as f64 / seconds,
            );
        }
        println!(
            "    heard by all replicas from watches of Shards: {:.1} kB/s",
            part.heard as f64 / 1e3 / seconds
        );
    }
    for (what, closest) in &figures.closest {
        println!("  {what:?}: no two writes of one within {closest:.3} s");
    }
    println!(
        "  an Order's count was right at most {:.1} s after its last change",
        figures.latest
    );
}
