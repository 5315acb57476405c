//! A value that is changed by requests, one after the other: which of them it may have now.

/// The values that were asked for, oldest first; the first is known to have been in force.
#[derive(Clone, Debug)]
pub struct History<T> {
    values: Vec<Asked<T>>,
}

#[derive(Clone, Debug)]
struct Asked<T> {
    value: T,
    /// When the broker said yes: the number of cuts before.
    answered: Option<u64>,
}

impl<T: Clone + PartialEq> History<T> {
    pub fn new(value: T) -> History<T> {
        let answered = Some(0);
        History {
            values: vec![Asked { value, answered }],
        }
    }

    /// A request for `value` is about to be sent.
    pub fn asked(&mut self, value: T) {
        let answered = None;
        self.values.push(Asked { value, answered });
    }

    /// The request for `value` was answered with success, after the cut of this number.
    pub fn answered(&mut self, value: &T, cuts: u64) {
        let open = |asked: &&mut Asked<T>| asked.answered.is_none() && asked.value == *value;
        if let Some(asked) = self.values.iter_mut().rev().find(open) {
            asked.answered = Some(cuts);
        }
    }

    /// The request for `value` was refused: it is as if it had not been sent.
    pub fn refused(&mut self, value: &T) {
        let open = |asked: &Asked<T>| asked.answered.is_none() && asked.value == *value;
        if let Some(place) = self.values.iter().rposition(open) {
            self.values.remove(place);
        }
    }

    /// The newest that was asked for.
    pub fn newest(&self) -> &T {
        &self.values[self.values.len() - 1].value
    }

    /// What may be in force: the last that was answered before the cut, and all after it. Without
    /// a cut, all answers count.
    pub fn allowed(&self, cut: Option<u64>) -> impl Iterator<Item = &T> {
        let counts = |answered: u64| cut.is_none_or(|cut| answered < cut);
        let last = |asked: &Asked<T>| asked.answered.is_some_and(counts);
        let from = self.values.iter().rposition(last).unwrap_or(0);
        self.values[from..].iter().map(|asked| &asked.value)
    }

    /// This is in force; what else was asked for is forgotten.
    pub fn settle(&mut self, value: T) {
        *self = History::new(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(history: &History<u8>, cut: Option<u64>) -> Vec<u8> {
        history.allowed(cut).copied().collect()
    }

    #[test]
    fn what_was_answered_is_in_force_and_what_came_after_may_be() {
        let mut history = History::new(1);
        history.asked(2);
        assert_eq!(allowed(&history, None), [1, 2]);
        history.answered(&2, 0);
        assert_eq!(allowed(&history, None), [2]);
        history.asked(3);
        history.asked(4);
        history.refused(&3);
        assert_eq!(allowed(&history, None), [2, 4]);
    }

    #[test]
    fn an_answer_after_the_cut_promises_nothing() {
        let mut history = History::new(1);
        history.asked(2);
        history.answered(&2, 0);
        history.asked(3);
        history.answered(&3, 1);
        assert_eq!(allowed(&history, Some(1)), [2, 3]);
        assert_eq!(allowed(&history, None), [3]);
    }
}
