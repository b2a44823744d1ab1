//! What a system test is.

use crate::world::World;

/// What a test is about, as `./bulkhead test --list` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something works.
    System,
    /// Something that must not happen does not.
    Attack,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Attack => "attack",
        }
    }
}

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// A sentence with underscores, unique.
    pub name: &'static str,
    /// What it is about.
    pub kind: Kind,
    /// It carries itself out. The world is left so that the next test can go on, or without a machine.
    pub run: fn(&mut World) -> anyhow::Result<()>,
}

/// The tests whose name contains one of `names`; all when there are no names.
#[must_use]
pub fn select(tests: &[Test], names: &[String]) -> Vec<Test> {
    tests
        .iter()
        .filter(|test| names.is_empty() || names.iter().any(|name| test.name.contains(name.as_str())))
        .copied()
        .collect()
}
