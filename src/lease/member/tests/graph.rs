//! A breadth-first search over all that can happen, and where time alone leads from each state.

use std::collections::{HashMap, HashSet, VecDeque};

use super::model::{State, Step};

/// A state that has been reached.
pub(super) struct Reached {
    /// From where, by what.
    from: (usize, Step),
    /// Where time alone leads.
    then: usize,
    unrest: bool,
}

/// All that can happen.
pub(super) struct Graph {
    start: State,
    pub(super) states: Vec<Reached>,
}

impl Graph {
    /// Visits every state, nearest first; ends with the shortest way to one that has two deciders.
    pub(super) fn explore(start: State) -> Result<Self, String> {
        let mut graph = Self {
            start: start.clone(),
            states: Vec::new(),
        };
        let (mut known, mut open) = (HashMap::from([(start.key(), 0)]), VecDeque::from([start.clone()]));
        graph.states.push(Reached {
            from: (0, Step::Beat),
            then: 0,
            unrest: start.world.unrest().is_some(),
        });
        let mut number = 0;
        while let Some(state) = open.pop_front() {
            for step in state.steps() {
                let next = state.after(step);
                let fresh = graph.states.len();
                let at = *known.entry(next.key()).or_insert(fresh);
                if matches!(step, Step::Beat) {
                    graph.states[number].then = at;
                }
                if at < fresh {
                    continue;
                }
                graph.states.push(Reached {
                    from: (number, step),
                    then: at,
                    unrest: next.world.unrest().is_some(),
                });
                if let Some(overlap) = next.world.overlap() {
                    return Err(format!("{overlap}{}", graph.story(at)));
                }
                open.push_back(next);
            }
            number += 1;
        }
        Ok(graph)
    }

    /// The most beats after which all is well, and stays so, from any state.
    pub(super) fn beats_to_rest(&self) -> Result<usize, String> {
        let mut most = 0;
        // Beats to rest from a state, once known.
        let mut rest: Vec<Option<usize>> = vec![None; self.states.len()];
        for first in 0..self.states.len() {
            let (mut way, mut at) = (Vec::new(), first);
            let mut seen = HashSet::new();
            while rest[at].is_none() && seen.insert(at) {
                way.push(at);
                at = self.states[at].then;
            }
            if rest[at].is_none() {
                // Time goes round in a circle from here.
                let circle = way.iter().position(|state| *state == at).unwrap_or(0);
                if let Some(unrest) = way[circle..].iter().find(|state| self.states[**state].unrest) {
                    return Err(format!("never at rest{}", self.story(*unrest)));
                }
                for state in way.drain(circle..) {
                    rest[state] = Some(0);
                }
            }
            for state in way.into_iter().rev() {
                let then = rest[self.states[state].then].unwrap_or(0);
                let beats = if then == 0 && !self.states[state].unrest {
                    0
                } else {
                    then + 1
                };
                rest[state] = Some(beats);
                most = most.max(beats);
            }
        }
        Ok(most)
    }

    /// How a state was reached.
    fn story(&self, mut number: usize) -> String {
        let mut steps = Vec::new();
        while number > 0 {
            let (from, step) = self.states[number].from;
            steps.push(step);
            number = from;
        }
        let (mut state, mut story) = (self.start.clone(), String::new());
        for step in steps.into_iter().rev() {
            state.world.log = Some(Vec::new());
            state = state.after(step);
            let log = state.world.log.take().unwrap_or_default().join(", ");
            story += &format!("\n  {step:?}: {log}");
        }
        story
    }
}
