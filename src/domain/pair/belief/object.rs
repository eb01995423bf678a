//! What is believed of one object under its name: the one machine for Tickets, Guardians and claimants.
//!
//! Four things tell of an object. The watch shows it late, and says that it has ended when it has only lost its
//! labels. A read (a GET or a list) is right when it is answered and may be old when it is heard. An own write that
//! landed has yet to be shown. Time passes. The machine never acts: it says what is believed, what has to be waited
//! for, and what a GET is to tell.
//!
//! | told | `Nothing` | `Watched` | `Read` | `Doubted` | `Absent` |
//! |---|---|---|---|---|---|
//! | the watch shows it | `Watched` | `Watched` | `Watched`, or as it is if what it shows came before | `Watched` | `Watched` |
//! | a read shows it | `Read` | as it is; `Read` if it is another | as it is; `Read` if it is another | `Read` | `Read` |
//! | the watch shows its end, korder's own doing | as it is | `Nothing` | `Nothing` | `Nothing` | as it is |
//! | the watch shows its end, not korder's doing | `Doubted` if korder just made it | `Doubted` | `Doubted` | `Doubted` | `Doubted` if korder just made it |
//! | a GET finds nothing | `Absent` | `Absent` | `Absent` | `Absent` | `Absent` |
//! | an own create landed | as it is | as it is | as it is | as it is | `Nothing` |
//! | an own delete landed | as it is | as it is | as it is | `Nothing` | as it is |
//!
//! Beside that stands the own write that the watch has yet to show, and the question that a GET is to answer. An own
//! write that is not shown in time becomes a question; so does what only a read has shown, again and again at doubling
//! pauses, since no watch may tell of its end.

use std::time::Duration;

use super::super::observed::{GuardianView, Revision, TicketView};
use crate::domain::values::{
    ids::{PodUid, TicketUid},
    time::Mono,
};

/// How long the watch may take to show an own write before a GET asks for it.
pub(super) const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long at most an object that only a read has shown is believed in before it is asked for again.
const BELIEVED_FOR: Duration = Duration::from_secs(300);

/// An object as a watch or a read shows it.
pub(crate) trait View {
    /// What tells it from others of its name.
    type Uid: Clone + Eq + std::fmt::Debug;
    /// Whether it is believed in until a GET denies it, although the watch says that it has ended.
    const LASTS_IN_DOUBT: bool;
    fn uid(&self) -> &Self::Uid;
    fn revision(&self) -> Revision;
}

impl View for TicketView {
    type Uid = TicketUid;
    const LASTS_IN_DOUBT: bool = true;
    fn uid(&self) -> &TicketUid {
        &self.uid
    }
    fn revision(&self) -> Revision {
        self.revision
    }
}

impl View for GuardianView {
    type Uid = PodUid;
    const LASTS_IN_DOUBT: bool = false;
    fn uid(&self) -> &PodUid {
        &self.uid
    }
    fn revision(&self) -> Revision {
        self.revision
    }
}

/// What is believed of the object of one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object<V: View> {
    view: Option<V>,
    source: Source,
    own: Option<Own<V::Uid>>,
    question: Option<Question>,
}

/// Where a belief comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// Nobody has told of it.
    Nothing,
    /// The watch shows it, and will show its end.
    Watched,
    /// Only a read has shown it: it may have come and gone between two lists.
    Read(Pace),
    /// The watch says that it has ended; it may only have lost its labels.
    Doubted(Pace),
    /// A GET has found nothing, and nothing has been seen since.
    Absent,
}

/// When an object is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pace {
    due: Mono,
    pause: Duration,
}

impl Pace {
    fn from(now: Mono) -> Self {
        Self {
            due: now.after(SHOWN_WITHIN),
            pause: SHOWN_WITHIN,
        }
    }

    fn slower(self, now: Mono) -> Self {
        let pause = self.pause.saturating_mul(2).min(BELIEVED_FOR);
        Self {
            due: now.after(pause),
            pause,
        }
    }
}

/// An own write that the watch has yet to show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Own<U> {
    uid: U,
    shows: Shows,
    due: Mono,
}

/// What the watch is to show of an own write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shows {
    /// The object at this revision or later.
    Revision(Revision),
    End,
}

/// Why a GET has to come before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Question {
    /// The watch has not shown an own write in time.
    Own,
    /// It is not known whether an own write landed.
    Unknown,
    /// Only a read has shown it, and that was long ago.
    Read,
}

/// What the end of an object, as the watch shows it, comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is another one that is believed in, or none.
    Other,
    /// It is gone, and korder removed it.
    Removed,
    /// A GET is to confirm it.
    Doubted,
}

impl<V: View> Default for Object<V> {
    fn default() -> Self {
        Self {
            view: None,
            source: Source::Nothing,
            own: None,
            question: None,
        }
    }
}

impl<V: View> Object<V> {
    /// The watch shows the object. Returns whether that is news: what came before is not.
    pub(super) fn shown(&mut self, view: V) -> bool {
        if let Some(known) = &self.view
            && known.revision() > view.revision()
        {
            // Whatever it shows of this very object, it will show its end, too.
            if known.uid() == view.uid() && matches!(self.source, Source::Read(_)) {
                self.watched();
            }
            return false;
        }
        self.see(view);
        self.watched();
        true
    }

    /// A read shows the object. Returns whether that is news.
    pub(super) fn read(&mut self, view: V, now: Mono) -> bool {
        let known = self.view.as_ref();
        if known.is_some_and(|known| known.revision() > view.revision()) {
            return false;
        }
        let known = known.is_some_and(|known| known.uid() == view.uid());
        self.see(view);
        self.source = match self.source {
            Source::Doubted(pace) if known => Source::Read(pace),
            source if known => source,
            _ => Source::Read(Pace::from(now)),
        };
        true
    }

    fn see(&mut self, view: V) {
        let shown = |own: &mut Own<V::Uid>| {
            let late_enough = matches!(own.shows, Shows::Revision(least) if view.revision() >= least);
            own.uid == *view.uid() && late_enough
        };
        if self.own.take_if(shown).is_some() {
            self.question.take_if(|question| *question == Question::Own);
        }
        self.view = Some(view);
    }

    fn watched(&mut self) {
        self.source = Source::Watched;
        self.question.take_if(|question| *question == Question::Read);
    }

    /// The watch shows the end of the object of this uid.
    pub(super) fn ended(&mut self, uid: &V::Uid, now: Mono) -> Ended {
        // What is believed in meanwhile is still to be shown, perhaps by another watch.
        let over = |own: &mut Own<V::Uid>| own.uid == *uid && (own.shows == Shows::End || !V::LASTS_IN_DOUBT);
        let own = self.own.take_if(over).map(|own| own.shows);
        if own.is_some() {
            self.question.take_if(|question| *question == Question::Own);
        }
        let known = self.view.as_ref().is_some_and(|view| view.uid() == uid);
        match own {
            Some(Shows::End) if known || self.view.is_none() => {
                (self.view, self.source) = (None, Source::Nothing);
                Ended::Removed
            }
            Some(Shows::End) => Ended::Other,
            None if !known => Ended::Other,
            Some(Shows::Revision(_)) if !known && self.view.is_some() => Ended::Other,
            _ => {
                self.source = match self.source {
                    Source::Read(pace) | Source::Doubted(pace) => Source::Doubted(pace),
                    _ => Source::Doubted(Pace::from(now)),
                };
                if !V::LASTS_IN_DOUBT {
                    self.view = None;
                    self.question.take_if(|question| *question == Question::Read);
                }
                Ended::Doubted
            }
        }
    }

    /// A GET finds nothing. Returns what was believed in.
    pub(super) fn absent(&mut self) -> Option<V> {
        self.source = Source::Absent;
        self.view.take()
    }

    /// The GET that was to answer a question has been answered.
    pub(super) fn answered(&mut self) {
        if self.question.take().is_some() {
            self.own = None;
        }
    }

    /// An own write has landed. Returns whether the watch had shown the end that this was.
    pub(super) fn landed(&mut self, uid: V::Uid, shows: Shows, now: Mono) -> bool {
        if shows == Shows::End && self.doubted() {
            (self.view, self.source, self.own) = (None, Source::Nothing, None);
            return true;
        }
        let known = self.view.as_ref().filter(|view| *view.uid() == uid);
        let shown = match shows {
            Shows::Revision(least) => known.is_some_and(|view| view.revision() >= least),
            Shows::End => known.is_none(),
        };
        if matches!(shows, Shows::Revision(_)) && self.is_absent() {
            self.source = Source::Nothing;
        }
        self.own = (!shown).then(|| Own {
            uid,
            shows,
            due: now.after(SHOWN_WITHIN),
        });
        false
    }

    /// Whether a write landed is not known: a GET comes before anything else.
    pub(super) fn unknown(&mut self) {
        self.question = Some(Question::Unknown);
    }

    /// Time has passed: what has not been shown becomes a question.
    pub(super) fn look(&mut self, now: Mono) {
        if self.question.is_some() {
            return;
        }
        if self.own.as_ref().is_some_and(|own| now >= own.due) {
            self.question = Some(Question::Own);
            return;
        }
        if let Source::Read(pace) | Source::Doubted(pace) = &mut self.source
            && self.view.is_some()
            && now >= pace.due
        {
            *pace = pace.slower(now);
            self.question = Some(Question::Read);
        }
    }

    /// The object, if one is believed in.
    pub(super) fn view(&self) -> Option<&V> {
        self.view.as_ref()
    }

    /// Whether a GET has to come before anything else.
    pub(super) fn asks(&self) -> bool {
        self.question.is_some()
    }

    /// Whether the watch says that it has ended, and no GET has confirmed it.
    pub(super) fn doubted(&self) -> bool {
        matches!(self.source, Source::Doubted(_))
    }

    /// Whether a GET has found nothing, and nothing has been seen since.
    pub(super) fn is_absent(&self) -> bool {
        self.source == Source::Absent
    }

    /// Until when the watch may take to show an own write.
    pub(super) fn awaited_until(&self) -> Option<Mono> {
        self.own.as_ref().map(|own| own.due)
    }

    /// Whether an own write has made the object, or changed it, and the watch has yet to show that.
    pub(super) fn awaits_revision(&self) -> bool {
        let made = |own: &Own<V::Uid>| matches!(own.shows, Shows::Revision(_));
        self.own.as_ref().is_some_and(made)
    }

    /// Whether korder has removed the object of this uid, and the watch has yet to show that.
    pub(super) fn removed(&self, uid: &V::Uid) -> bool {
        let removed = |own: &Own<V::Uid>| own.uid == *uid && own.shows == Shows::End;
        self.own.as_ref().is_some_and(removed)
    }

    /// When it is to be asked for again.
    pub(super) fn ask_again_at(&self) -> Option<Mono> {
        match self.source {
            Source::Read(pace) | Source::Doubted(pace) if self.view.is_some() => Some(pace.due),
            _ => None,
        }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        let nothing = self.view.is_none() && self.source == Source::Nothing;
        nothing && self.own.is_none() && self.question.is_none()
    }
}

#[cfg(test)]
mod tests;
