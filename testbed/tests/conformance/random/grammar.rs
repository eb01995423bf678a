//! What random sequences are made of: few kinds and names, so that requests meet, and preconditions that
//! hold, do not hold or are not there.

use std::ops::Range;

use proptest::{
    collection::vec,
    option,
    prelude::{Just, any},
    prop_oneof,
    strategy::{BoxedStrategy, Strategy},
};

/// The kinds random sequences write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ticket,
    Order,
    Pod,
    Lease,
    Node,
}

/// Which value of an object a precondition names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named {
    None,
    Latest,
    First,
    Wrong,
}

/// A label `app` with this value, no label, or no mention of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Label {
    Unmentioned,
    Removed,
    A,
    B,
}

/// What a PATCH or PUT changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) label: Label,
    pub(crate) finalizer: Option<bool>,
    /// A value for some field of the spec.
    pub(crate) spec: Option<u8>,
    /// A value for some field of the status.
    pub(crate) status: Option<u8>,
    pub(crate) uid: Named,
    pub(crate) revision: Named,
    /// To the status subresource.
    pub(crate) to_status: bool,
}

/// Which objects a list or watch is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Selector {
    All,
    AppIsA,
    AppInAb,
    NoApp,
    NotA,
    Name(u8),
    /// A field of the kind's own: a Ticket's phase, a Pod's node.
    Own,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// At a list made right before.
    Listed,
    /// At the first known revision of an object.
    Object(u8),
    /// With the initial events.
    Streamed,
}

/// One action: one request, or two where the first gives the second its revision.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Create {
        kind: Kind,
        name: u8,
        label: Label,
        held: bool,
        variant: u8,
        generated: bool,
    },
    Get {
        kind: Kind,
        name: u8,
        partial: bool,
    },
    List {
        kind: Kind,
        selector: Selector,
        limit: Option<u8>,
        proceed: bool,
        partial: bool,
        revision: Named,
    },
    Merge {
        kind: Kind,
        name: u8,
        change: Change,
    },
    Put {
        kind: Kind,
        name: u8,
        change: Change,
    },
    Delete {
        kind: Kind,
        name: u8,
        uid: Named,
        revision: Named,
        grace: Option<u8>,
    },
    DeleteCollection {
        kind: Kind,
        selector: Selector,
        grace: Option<u8>,
    },
    /// Binds a Pod; reads an object of another kind.
    Bind {
        kind: Kind,
        name: u8,
        node: u8,
        uid: Named,
    },
    Watch {
        kind: Kind,
        selector: Selector,
        begin: Begin,
        partial: bool,
    },
}

/// 5 to 25 actions on one or two kinds; the first make objects that the others meet.
pub(crate) fn sequence() -> impl Strategy<Value = Vec<Action>> {
    (kind(), kind()).prop_flat_map(|(main, other)| {
        let kinds = prop_oneof![3 => Just(main), 1 => Just(other)].boxed();
        let made = vec(create(kinds.clone(), 0..5), 2..=4);
        let actions = vec(action(kinds), 3..=21);
        (made, actions).prop_map(|(made, actions)| [made, actions].concat())
    })
}

type Kinds = BoxedStrategy<Kind>;

fn action(kinds: Kinds) -> impl Strategy<Value = Action> {
    let kind = || kinds.clone();
    prop_oneof![
        4 => create(kind(), 0..6),
        2 => (kind(), name(), any::<bool>())
            .prop_map(|(kind, name, partial)| Action::Get { kind, name, partial }),
        3 => list(kind()),
        6 => (kind(), name(), change()).prop_map(|(kind, name, change)| Action::Merge { kind, name, change }),
        4 => (kind(), name(), change()).prop_map(|(kind, name, change)| Action::Put { kind, name, change }),
        3 => (kind(), name(), named(), named(), grace()).prop_map(|(kind, name, uid, revision, grace)| {
            Action::Delete { kind, name, uid, revision, grace }
        }),
        1 => (kind(), selector(), grace()).prop_map(|(kind, selector, grace)| {
            Action::DeleteCollection { kind, selector, grace }
        }),
        2 => (kind(), name(), 0..2u8, named())
            .prop_map(|(kind, name, node, uid)| Action::Bind { kind, name, node, uid }),
        2 => (kind(), selector(), begin(), any::<bool>()).prop_map(|(kind, selector, begin, partial)| {
            Action::Watch { kind, selector, begin, partial }
        }),
    ]
}

fn create(kinds: Kinds, variants: Range<u8>) -> impl Strategy<Value = Action> {
    let parts = (kinds, name(), label(), rarely(), variants, rarely());
    parts.prop_map(|(kind, name, label, held, variant, generated)| Action::Create {
        kind,
        name,
        label,
        held,
        variant,
        generated,
    })
}

fn list(kinds: Kinds) -> impl Strategy<Value = Action> {
    let parts = (kinds, selector(), option::of(1..3u8), rarely(), rarely(), named());
    parts.prop_map(
        |(kind, selector, limit, proceed, partial, revision)| Action::List {
            kind,
            selector,
            limit,
            proceed,
            partial,
            revision,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let fields = (
        label(),
        option::weighted(0.3, any::<bool>()),
        option::of(0..5u8),
        option::of(0..5u8),
        named(),
        named(),
        any::<bool>(),
    );
    fields.prop_map(
        |(label, finalizer, spec, status, uid, revision, to_status)| Change {
            label,
            finalizer,
            spec,
            status,
            uid,
            revision,
            to_status,
        },
    )
}

/// Tickets and Pods most of the time.
fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        5 => Just(Kind::Ticket),
        4 => Just(Kind::Pod),
        2 => Just(Kind::Order),
        1 => Just(Kind::Lease),
        1 => Just(Kind::Node),
    ]
}

fn name() -> impl Strategy<Value = u8> {
    0..2u8
}

fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        6 => Just(Named::None),
        4 => Just(Named::Latest),
        1 => Just(Named::First),
        1 => Just(Named::Wrong),
    ]
}

fn label() -> impl Strategy<Value = Label> {
    prop_oneof![
        Just(Label::Unmentioned),
        Just(Label::Removed),
        Just(Label::A),
        Just(Label::B)
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        3 => Just(Selector::All),
        2 => Just(Selector::AppIsA),
        1 => Just(Selector::AppInAb),
        1 => Just(Selector::NoApp),
        1 => Just(Selector::NotA),
        1 => name().prop_map(Selector::Name),
        2 => Just(Selector::Own),
    ]
}

fn begin() -> impl Strategy<Value = Begin> {
    prop_oneof![
        3 => Just(Begin::Listed),
        1 => name().prop_map(Begin::Object),
        2 => Just(Begin::Streamed),
    ]
}

fn grace() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![2 => Just(None), 2 => Just(Some(0)), 1 => Just(Some(60))]
}

fn rarely() -> impl Strategy<Value = bool> {
    prop_oneof![4 => Just(false), 1 => Just(true)]
}
