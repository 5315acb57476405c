//! What chooses in a model's run.

/// The bytes that choose; zeros, when they are used up.
pub struct Input<'i>(pub &'i [u8]);

impl Input<'_> {
    /// The next of them.
    pub fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.byte() % limit.max(1)
    }
}
