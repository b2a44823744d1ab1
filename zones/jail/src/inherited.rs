//! Descriptors that `init` passed to this process, by name.
//!
//! The environment variable [`VARIABLE`] lists their names, separated by commas; the first name is
//! descriptor [`FIRST`], the next one `FIRST + 1`, and so on.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Names of the descriptors, in order.
pub const VARIABLE: &str = "BULKHEAD_FDS";

/// Number of the first passed descriptor.
pub const FIRST: RawFd = 3;

/// A descriptor that the profile promises was not passed.
#[derive(Debug, thiserror::Error)]
#[error("descriptor {name:?} was not passed (passed: {passed:?})")]
pub struct MissingDescriptor {
    /// The name asked for.
    pub name: String,
    /// What is left of the names passed.
    pub passed: Vec<String>,
}

/// The passed descriptors that nobody took yet.
#[derive(Debug, Default)]
pub struct Inherited {
    by_name: BTreeMap<String, OwnedFd>,
}

impl Inherited {
    /// Takes over the descriptors named by the environment. Call it once, first thing in `main`, while the
    /// process has one thread: a second call would own the same descriptors twice, so it returns nothing
    /// (the variable is remembered as used).
    #[must_use]
    pub fn from_environment() -> Self {
        static TAKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        if TAKEN.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Self::default();
        }
        let names = std::env::var(VARIABLE).unwrap_or_default();
        let mut by_name = BTreeMap::new();
        for (number, name) in (FIRST..).zip(names.split(',').filter(|name| !name.is_empty())) {
            // SAFETY: init placed exactly one open descriptor at each number that it names, nothing else in
            // this process knows the number, and the flag above keeps this from running twice.
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            // What this process inherits is not for any program that it might start.
            if rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).is_ok() {
                by_name.insert(name.to_owned(), descriptor);
            }
        }
        Self { by_name }
    }

    /// Takes the descriptor called `name`.
    ///
    /// # Errors
    /// [`MissingDescriptor`] when it was not passed or was taken before.
    pub fn take(&mut self, name: &str) -> Result<OwnedFd, MissingDescriptor> {
        self.by_name.remove(name).ok_or_else(|| MissingDescriptor {
            name: name.to_owned(),
            passed: self.by_name.keys().cloned().collect(),
        })
    }

    /// Takes every descriptor whose name starts with `prefix`, sorted by name.
    pub fn take_all(&mut self, prefix: &str) -> Vec<(String, OwnedFd)> {
        let names: Vec<String> =
            self.by_name.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        names.into_iter().filter_map(|name| self.by_name.remove(&name).map(|fd| (name, fd))).collect()
    }
}
