//! How many events are written: a reserve that fills up again with time.

/// Events that may come at once, and seconds after which one more may come.
#[derive(Clone, Debug)]
pub(crate) struct Ration {
    reserve: u64,
    seconds: u64,
    left: u64,
    filled: u64,
}

impl Ration {
    /// A full reserve at `steady`.
    pub(crate) fn new(reserve: u64, seconds: u64, steady: u64) -> Self {
        Self { reserve, seconds: seconds.max(1), left: reserve, filled: steady }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, steady: u64) -> bool {
        let more = steady.saturating_sub(self.filled) / self.seconds;
        self.filled = self.filled.saturating_add(more.saturating_mul(self.seconds));
        self.left = self.left.saturating_add(more).min(self.reserve);
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}
