//! Medians, and how sure a ratio of medians is. Pure; the same samples give the same answer.

/// Resamples of one interval.
const RESAMPLES: usize = 4000;

/// Part of the resamples on each side of a 95 % interval, per thousand.
const TAIL_PER_MILLE: usize = 25;

/// The middle of some values; `None` without values.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// The ratio of two medians with its bootstrap 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Median by median.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The ratio of ours to a peer's over rounds in which both have a value: (ours, peer's). `None` without
/// rounds, or when a peer's value is zero.
#[must_use]
pub fn ratio(rounds: &[(f64, f64)]) -> Option<Ratio> {
    let value = ratio_of(rounds)?;
    let mut random = SplitMix(0x2545_F491_4F6C_DD1D);
    let mut ratios = (0..RESAMPLES)
        .map(|_| {
            // A round's values belong together: both had the same machine at the same time.
            let drawn: Option<Vec<_>> =
                (0..rounds.len()).map(|_| rounds.get(random.below(rounds.len())).copied()).collect();
            ratio_of(&drawn?)
        })
        .collect::<Option<Vec<f64>>>()?;
    ratios.sort_by(f64::total_cmp);
    let tail = RESAMPLES * TAIL_PER_MILLE / 1000;
    Some(Ratio { value, low: *ratios.get(tail)?, high: *ratios.get(RESAMPLES - 1 - tail)? })
}

fn ratio_of(rounds: &[(f64, f64)]) -> Option<f64> {
    let ours: Vec<f64> = rounds.iter().map(|round| round.0).collect();
    let theirs: Vec<f64> = rounds.iter().map(|round| round.1).collect();
    let quotient = median(&ours)? / median(&theirs)?;
    quotient.is_finite().then_some(quotient)
}

/// Steele, Lea and Flood's SplitMix64.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `limit`, which is small: the bias of a remainder does not matter.
    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |values: &[f64], expected| assert_eq!(median(values), expected);
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 1.0, 2.0, 9.0], Some(3.0));
    }

    #[test]
    fn an_interval_holds_the_ratio_and_grows_with_noise() {
        let steady = ratio(&[(1.0, 2.0); 5]).unwrap();
        assert_eq!(steady, Ratio { value: 0.5, low: 0.5, high: 0.5 });
        let noisy = ratio(&[(1.0, 2.0), (1.2, 2.0), (3.0, 2.1), (1.1, 2.0), (0.9, 1.9)]).unwrap();
        assert!(noisy.low <= noisy.value && noisy.value <= noisy.high, "{noisy:?}");
        assert!(noisy.high > noisy.low, "{noisy:?}");
        assert_eq!(ratio(&[]), None);
        assert_eq!(ratio(&[(1.0, 0.0)]), None);
    }
}
