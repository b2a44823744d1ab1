//! Choices out of bytes: a fuzzed input is a sequence of them. What is no longer there is zero.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The whole input.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// At most so many bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Bytes of a length that the input says, at most `limit`.
    pub fn some_bytes(&mut self, limit: usize) -> &'a [u8] {
        let count = usize::from(self.u16()) % (limit + 1);
        self.bytes(count)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// A byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// One of a few, by one byte.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.u8()) % limit.max(1)
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 != 0
    }

    /// A number that is mostly near something that matters.
    pub fn number(&mut self, near: &[u64]) -> u64 {
        match self.u8() {
            choice @ 0..=191 if !near.is_empty() => near[usize::from(choice) % near.len()],
            192..=223 => u64::from(self.u16()),
            224..=239 => u64::MAX - u64::from(self.u8()),
            240..=247 => {
                let base = near.get(self.below(near.len())).copied().unwrap_or_default();
                base.wrapping_add(u64::from(self.u8())).wrapping_sub(64)
            }
            _ => self.u64(),
        }
    }
}
