//! Every schedule of a small world: one name, two objects one after the other, a few changes, a watch that lags and
//! forgets, GETs that are old when they are heard. From wherever it stands, what is believed comes to what is.

use std::collections::{HashSet, VecDeque};

use super::*;

/// `LASTS` as Tickets do, or not, as Guardians do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Thing<const LASTS: bool> {
    uid: u8,
    revision: u64,
}

impl<const LASTS: bool> View for Thing<LASTS> {
    type Uid = u8;
    const LASTS_IN_DOUBT: bool = LASTS;
    fn uid(&self) -> &u8 {
        &self.uid
    }
    fn revision(&self) -> Revision {
        Revision(self.revision)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event<T> {
    Shown(T),
    End(u8),
}

/// What korder has asked for, as the API server has answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer<T> {
    Made(T),
    Deleted(u8),
    Found(Option<T>),
    /// A write landed or not, and its answer was lost.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    CreateUnheard,
    Delete,
    Get,
    Hear,
    Watch,
    Relist,
    OthersDelete,
    OthersChange,
    StripLabels,
    RestoreLabels,
    Wait,
}

const STEPS: [Step; 12] = [
    Step::Create,
    Step::CreateUnheard,
    Step::Delete,
    Step::Get,
    Step::Hear,
    Step::Watch,
    Step::Relist,
    Step::OthersDelete,
    Step::OthersChange,
    Step::StripLabels,
    Step::RestoreLabels,
    Step::Wait,
];
const UIDS: u8 = 2;
const REVISIONS: u64 = 5;
const WAITS: u64 = 2;
const LAG: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World<const LASTS: bool> {
    truth: Option<Thing<LASTS>>,
    /// It has lost the label that the watch selects by.
    hidden: bool,
    revision: u64,
    uids: u8,
    /// What the watch has shown and not ended.
    watched: Option<u8>,
    events: VecDeque<Event<Thing<LASTS>>>,
    answer: Option<Answer<Thing<LASTS>>>,
    unheard: bool,
    waits: u64,
    object: Object<Thing<LASTS>>,
}

impl<const LASTS: bool> World<LASTS> {
    fn new() -> Self {
        Self {
            truth: None,
            hidden: false,
            revision: 0,
            uids: 0,
            watched: None,
            events: VecDeque::new(),
            answer: None,
            unheard: false,
            waits: 0,
            object: Object::default(),
        }
    }

    fn now(&self) -> Mono {
        Mono(BELIEVED_FOR * u32::try_from(self.waits).unwrap())
    }

    /// The world after a step, if that can be.
    fn after(&self, step: Step) -> Option<Self> {
        let mut next = self.clone();
        next.step(step).then_some(next)
    }

    fn step(&mut self, step: Step) -> bool {
        let rests = self.answer.is_none() && self.object.awaited_until().is_none();
        let asks = self.object.asks() || self.object.doubted();
        let bounded = self.revision < REVISIONS && self.events.len() < LAG;
        match step {
            Step::Create | Step::CreateUnheard => {
                if !rests || asks || self.object.view().is_some() {
                    return false;
                }
                if self.truth.is_some() {
                    self.answer = Some(Answer::Found(self.truth));
                    return step == Step::Create;
                }
                if !bounded || self.uids == UIDS {
                    return false;
                }
                self.uids += 1;
                self.hidden = false;
                self.change(self.uids);
                let made = self.truth.map(Answer::Made);
                self.unheard = step == Step::CreateUnheard;
                self.answer = if self.unheard { Some(Answer::Lost) } else { made };
            }
            Step::Delete => {
                let Some(&view) = self.object.view().filter(|_| rests && !asks) else {
                    return false;
                };
                if self.truth.is_some_and(|truth| truth.uid == view.uid) {
                    self.remove();
                    self.answer = Some(Answer::Deleted(view.uid));
                } else {
                    self.answer = Some(Answer::Found(self.truth));
                }
            }
            Step::Get => {
                if !asks || self.answer.is_some() {
                    return false;
                }
                self.answer = Some(Answer::Found(self.truth));
            }
            Step::Hear => {
                let Some(answer) = self.answer.take() else {
                    return false;
                };
                self.hear(answer);
            }
            Step::Watch => {
                let Some(event) = self.events.pop_front() else {
                    return false;
                };
                self.watch(event);
            }
            Step::Relist => {
                self.events.clear();
                let listed = self.truth.filter(|_| !self.hidden);
                if let Some(gone) = self
                    .watched
                    .filter(|uid| listed.is_none_or(|found| found.uid != *uid))
                {
                    self.watch(Event::End(gone));
                }
                if let Some(found) = listed {
                    self.watch(Event::Shown(found));
                }
            }
            Step::OthersDelete if self.truth.is_some() && self.events.len() < LAG => self.remove(),
            Step::OthersChange if bounded && let Some(truth) = self.truth => self.change(truth.uid),
            Step::StripLabels
                if bounded
                    && !self.hidden
                    && let Some(truth) = self.truth =>
            {
                self.hidden = true;
                self.change(truth.uid);
                self.events.push_back(Event::End(truth.uid));
            }
            Step::RestoreLabels
                if bounded
                    && self.hidden
                    && let Some(truth) = self.truth =>
            {
                self.hidden = false;
                self.change(truth.uid);
            }
            Step::Wait if self.waits < WAITS => self.wait(),
            _ => return false,
        }
        true
    }

    fn wait(&mut self) {
        self.waits += 1;
        self.object.look(self.now());
    }

    fn change(&mut self, uid: u8) {
        self.revision += 1;
        let truth = Thing {
            uid,
            revision: self.revision,
        };
        self.truth = Some(truth);
        if !self.hidden {
            self.events.push_back(Event::Shown(truth));
        }
    }

    fn remove(&mut self) {
        let gone = self.truth.take().expect("checked by the caller");
        if !self.hidden {
            self.events.push_back(Event::End(gone.uid));
        }
    }

    fn hear(&mut self, answer: Answer<Thing<LASTS>>) {
        let now = self.now();
        match answer {
            Answer::Made(made) => {
                let shows = Shows::Revision(Revision(made.revision));
                assert!(!self.object.landed(made.uid, shows, now));
            }
            Answer::Deleted(uid) => {
                if self.object.landed(uid, Shows::End, now) && LASTS {
                    self.object = Object::default();
                }
            }
            Answer::Found(Some(found)) => {
                self.object.read(found, now);
                self.object.answered();
            }
            // A Ticket that is gone is forgotten.
            Answer::Found(None) if LASTS => self.object = Object::default(),
            Answer::Found(None) => {
                self.object.absent();
                self.object.answered();
            }
            Answer::Lost => self.object.unknown(),
        }
    }

    fn watch(&mut self, event: Event<Thing<LASTS>>) {
        match event {
            Event::Shown(thing) => {
                self.watched = Some(thing.uid);
                self.object.shown(thing);
            }
            Event::End(uid) => {
                self.watched.take_if(|watched| *watched == uid);
                if self.object.ended(&uid, self.now()) == Ended::Removed && LASTS {
                    self.object = Object::default();
                }
            }
        }
    }

    /// Nothing happens any more: the watch catches up, and korder asks what it has to ask.
    fn settled(mut self) -> Self {
        if let Some(answer) = self.answer.take() {
            self.hear(answer);
        }
        while let Some(event) = self.events.pop_front() {
            self.watch(event);
        }
        for _ in 0..4 {
            self.wait();
            // One that is believed to be nowhere is made, and the API server says that it is there.
            if self.object.asks() || self.object.doubted() || self.object.view().is_none() {
                self.hear(Answer::Found(self.truth));
            }
        }
        self
    }
}

/// Visits every world that the steps lead to; `check` is asked of each.
fn explore<const LASTS: bool>(
    steps: &[Step],
    check: impl Fn(&World<LASTS>) -> Result<(), &'static str>,
) -> usize {
    let (mut seen, mut open) = (HashSet::new(), vec![(World::new(), Vec::new())]);
    while let Some((world, path)) = open.pop() {
        if let Err(why) = check(&world) {
            panic!("{why} after {path:?}: {world:#?}");
        }
        for &step in steps {
            if let Some(next) = world.after(step)
                && seen.insert(next.clone())
            {
                open.push((next, [&path[..], &[step]].concat()));
            }
        }
    }
    seen.len()
}

fn comes_to_the_truth<const LASTS: bool>(world: &World<LASTS>) -> Result<(), &'static str> {
    let settled = world.clone().settled();
    match settled.object.view() == settled.truth.as_ref() {
        true => Ok(()),
        false => Err("what is believed for good is not so"),
    }
}

fn is_absent_when_it_says_so<const LASTS: bool>(world: &World<LASTS>) -> Result<(), &'static str> {
    let made = world.unheard || matches!(world.answer, Some(Answer::Made(_)));
    match world.object.is_absent() && world.truth.is_some() && !made {
        true => Err("said to be absent, and is there"),
        false => Ok(()),
    }
}

#[test]
fn what_is_believed_comes_to_what_is_for_what_lasts_in_doubt() {
    let seen = explore::<true>(&STEPS, comes_to_the_truth);
    assert!(seen > 10_000, "{seen}");
}

#[test]
fn what_is_believed_comes_to_what_is_for_what_does_not() {
    let seen = explore::<false>(&STEPS, comes_to_the_truth);
    assert!(seen > 10_000, "{seen}");
}

#[test]
fn what_is_said_to_be_absent_is_absent() {
    let seen = explore::<false>(&STEPS, is_absent_when_it_says_so);
    assert!(seen > 10_000, "{seen}");
}

/// As long as nobody else writes and no time runs out, own writes are no reason to ask.
#[test]
fn own_writes_lead_to_no_question() {
    let steps = [Step::Create, Step::Delete, Step::Hear, Step::Watch];
    fn asks_nothing<const LASTS: bool>(world: &World<LASTS>) -> Result<(), &'static str> {
        // While the answer is out, the watch may be the first to tell of the end.
        let told_first = matches!(world.answer, Some(Answer::Deleted(_)));
        match world.object.asks() || (world.object.doubted() && !told_first) {
            true => Err("asks"),
            false => Ok(()),
        }
    }
    assert!(explore::<true>(&steps, asks_nothing) > 10);
    assert!(explore::<false>(&steps, asks_nothing) > 10);
}

/// An own write is waited for no longer than the watch may take, then asked for, and the answer ends it.
#[test]
fn an_own_write_that_is_not_shown_becomes_a_question() {
    let mut object = Object::<Thing<false>>::default();
    let at = |seconds| Mono(Duration::from_secs(seconds));
    object.landed(1, Shows::Revision(Revision(7)), at(10));
    object.look(at(14));
    assert_eq!((object.awaited_until(), object.asks()), (Some(at(15)), false));
    object.look(at(15));
    assert!(object.asks());
    object.answered();
    assert!(object.is_empty());
}

/// Doubling pauses, five minutes at most.
#[test]
fn what_only_a_read_has_shown_is_asked_for_less_and_less_often() {
    let mut object = Object::<Thing<true>>::default();
    let at = |seconds| Mono(Duration::from_secs(seconds));
    let thing = Thing { uid: 1, revision: 7 };
    object.read(thing, at(0));
    let mut asked = Vec::new();
    for second in 1..=1300 {
        object.look(at(second));
        if object.asks() {
            asked.push(second);
            object.read(thing, at(second));
            object.answered();
        }
    }
    assert_eq!(asked, [5, 15, 35, 75, 155, 315, 615, 915, 1215]);
}
