//! Key sequences: which of the first N keys are requested, and in which order.

use std::fmt;

use rand::RngExt;
use rand::distr::Uniform;
use rand::seq::SliceRandom;
use rand_distr::Zipf;

use super::generator;

/// How requests are distributed over the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// The k-th most popular key is requested 1/k^0.99 times as often as the first.
    Zipf,
    /// Every key is requested equally often.
    Uniform,
}

impl fmt::Display for Distribution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Zipf => "zipf0.99",
            Self::Uniform => "uniform",
        })
    }
}

/// Returns `count` requests for the keys `0..keys`.
pub fn sequence(distribution: Distribution, keys: u32, count: usize, seed: u64) -> Vec<u32> {
    let random = generator(seed);
    match distribution {
        Distribution::Uniform => {
            let uniform = Uniform::new(0, keys).expect("there is at least one key");
            random.sample_iter(uniform).take(count).collect()
        }
        Distribution::Zipf => {
            let zipf = Zipf::new(f64::from(keys), 0.99).expect("there is at least one key");
            // Ranks begin at 1.
            random.sample_iter(zipf).take(count).map(|rank: f64| (rank as u32).clamp(1, keys) - 1).collect()
        }
    }
}

/// Returns all of `0..keys` in random order. Filling a cache in this order keeps popular keys from lying next
/// to each other in memory.
pub fn shuffled(keys: u32, seed: u64) -> Vec<u32> {
    let mut all: Vec<u32> = (0..keys).collect();
    all.shuffle(&mut generator(seed));
    all
}

/// Returns `count` keys that no other `lap` has. The same lap always gives the same keys.
pub fn never_seen(lap: u32, count: usize) -> Vec<u64> {
    // Multiplying by an odd number maps different numbers to different numbers.
    let spread = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..count as u64).map(|index| spread(u64::from(lap) << 32 | index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_always_means_the_same_keys() {
        for distribution in [Distribution::Zipf, Distribution::Uniform] {
            let once = sequence(distribution, 1000, 500, 7);
            assert_eq!(once, sequence(distribution, 1000, 500, 7));
            assert_ne!(once, sequence(distribution, 1000, 500, 8));
            assert!(once.iter().all(|&key| key < 1000));
        }
    }

    #[test]
    fn zipf_asks_for_the_first_key_about_as_often_as_its_formula_says() {
        let asked = sequence(Distribution::Zipf, 10_000, 200_000, 1);
        let first = asked.iter().filter(|&&key| key == 0).count() as f64 / asked.len() as f64;
        let harmonic: f64 = (1..=10_000).map(|rank| f64::from(rank).powf(-0.99)).sum();
        assert!((first - 1.0 / harmonic).abs() < 0.005, "{first}");
    }

    #[test]
    fn keys_never_seen_are_never_seen() {
        let mut seen = HashSet::new();
        for lap in [0, 1, 2, u32::MAX] {
            assert!(never_seen(lap, 1000).into_iter().all(|key| seen.insert(key)));
        }
    }

    #[test]
    fn shuffling_loses_no_key() {
        let all: HashSet<u32> = shuffled(1000, 3).into_iter().collect();
        assert_eq!(all.len(), 1000);
    }
}
