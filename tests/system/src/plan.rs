//! What the user wants of the tests: which, how long, and from which seed.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

/// Seeds that are chosen here are below this, so that a person can type them.
const SHORT: u64 = 1_000_000;

/// The words behind `test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Random series run in full, not as a sample.
    pub soak: bool,
    /// Where random series begin: the same seed gives the same series.
    pub seed: u64,
    /// Parts of names of the tests that are wanted; none: all.
    pub names: Vec<String>,
}

impl Plan {
    /// Reads the words; without `--seed` the clock chooses one.
    ///
    /// # Errors
    /// A sentence that names the word and what is allowed.
    pub fn parse(words: &[String]) -> anyhow::Result<Self> {
        let mut plan = Self { soak: false, seed: seed_of_the_clock(), names: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--soak" => plan.soak = true,
                "--seed" => {
                    let value = words.next().context("--seed needs a whole number")?;
                    plan.seed = value
                        .parse()
                        .with_context(|| format!("--seed needs a whole number, found {value:?}"))?;
                }
                option if option.starts_with("--") => {
                    bail!("unknown option {option}: allowed are --soak and --seed NUMBER");
                }
                name => plan.names.push(name.to_owned()),
            }
        }
        Ok(plan)
    }

    /// Random numbers of this plan, from their beginning.
    #[must_use]
    pub fn dice(&self) -> Dice {
        Dice::new(self.seed)
    }
}

fn seed_of_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs() ^ u64::from(now.subsec_micros())) % SHORT
}

/// A small deterministic generator (xorshift64*): a seed names a series.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The series of a seed, from its beginning.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // xorshift has a fixed point at 0, and small seeds should differ in all bits.
        Self((seed ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any 31 bits.
    pub fn number(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // The upper bits are the better ones.
        u32::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("31 bits")
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// There are none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let number = usize::try_from(self.number()).unwrap_or(0);
        *choices.get(number % choices.len()).expect("the remainder is below the length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Plan, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Plan::parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_and_mistakes_are_named() {
        let plan = parse(&["leak", "--seed", "7", "--soak", "kill"]).unwrap();
        assert_eq!(plan, Plan { soak: true, seed: 7, names: vec!["leak".to_owned(), "kill".to_owned()] });
        assert!(!parse(&[]).unwrap().soak);
        assert!(parse(&[]).unwrap().seed < SHORT);
        assert!(parse(&["--seed"]).unwrap_err().contains("whole number"));
        assert!(parse(&["--seed", "x"]).unwrap_err().contains("\"x\""));
        assert!(parse(&["--fly"]).unwrap_err().contains("allowed are --soak"));
    }

    #[test]
    fn a_seed_names_a_series_and_every_choice_comes() {
        let series = |seed: &str| {
            let mut dice = parse(&["--seed", seed]).unwrap().dice();
            (0..50).map(|_| dice.pick(&[0, 1, 2, 3])).collect::<Vec<u8>>()
        };
        assert_eq!(series("1"), series("1"));
        assert_ne!(series("1"), series("2"));
        for seed in ["0", "1", "2", "123456"] {
            let mut seen = series(seed);
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, [0, 1, 2, 3], "seed {seed}");
        }
    }
}
