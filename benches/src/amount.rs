//! Amounts as people write them: `10k`, `1M`, `128MiB`, `10%`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

const UNITS: [(&str, u64); 10] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("k", 1000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("b", 1),
];

/// Parses a whole number with an optional unit: a power of ten, or a power of two with an `i` (`KiB`, `MiB`,
/// `GiB`).
///
/// # Errors
/// Says what was expected.
pub fn parse(text: &str) -> Result<u64> {
    let lower = text.to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(name, factor)| Some((lower.strip_suffix(name)?, *factor)));
    let (number, factor) = unit.unwrap_or((&lower, 1));
    let number = number.trim().replace('_', "").parse::<u64>();
    number
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .with_context(|| format!("{text:?} is not an amount: expected a number like 250, 10k, 1M or 128MiB"))
}

/// A capacity: an absolute amount, or a percentage of what a whole trace needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// A number of entries or bytes.
    Amount(u64),
    /// A percentage of the distinct keys, or of their bytes.
    Percent(f64),
}

impl Share {
    /// Returns the amount, taking `whole` as a hundred per cent; at least one for a percentage.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            Self::Percent(percent) => ((whole as f64 * percent / 100.0) as u64).max(1),
        }
    }
}

/// The largest capacities that caches are built with. Several of them allocate for all entries at once, and
/// abort if that fails.
const MOST_ENTRIES: u64 = 100_000_000;
const MOST_BYTES: u64 = 64 << 30;

impl Share {
    /// Returns the amount as [`of`](Self::of) does, if caches can be built with it.
    ///
    /// # Errors
    /// Names the option, the value and what is allowed.
    pub fn capacity(self, whole: u64, bytes: bool) -> Result<u64> {
        let amount = self.of(whole);
        let (most, unit) = if bytes { (MOST_BYTES, "bytes (64GiB)") } else { (MOST_ENTRIES, "entries") };
        ensure!(amount <= most, "--capacity {self}: that is {amount}, and from 1 to {most} {unit} are allowed");
        Ok(amount)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(amount) => write!(formatter, "{amount}"),
            Self::Percent(percent) => write!(formatter, "{percent}%"),
        }
    }
}

impl FromStr for Share {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let share = match text.strip_suffix('%') {
            Some(percent) => Self::Percent(
                percent.parse().with_context(|| format!("{text:?} is not a percentage: expected one like 0.5%"))?,
            ),
            None => Self::Amount(parse(text)?),
        };
        let positive = match share {
            Self::Amount(amount) => amount > 0,
            Self::Percent(percent) => percent > 0.0 && percent.is_finite(),
        };
        ensure!(positive, "a capacity is above zero, and {text:?} is not");
        Ok(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_mean_what_people_expect() {
        for (text, amount) in [
            ("250", 250),
            ("10k", 10_000),
            ("1M", 1_000_000),
            ("128MiB", 128 << 20),
            ("1GiB", 1 << 30),
            ("1_000", 1000),
        ] {
            assert_eq!(parse(text).unwrap(), amount, "{text}");
        }
    }

    #[test]
    fn what_is_not_an_amount_is_an_error() {
        for text in ["", "k", "-1", "1.5M", "99999999999G"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_an_amount_or_a_part_of_the_whole() {
        assert_eq!("10%".parse::<Share>().unwrap().of(5000), 500);
        assert_eq!("0.001%".parse::<Share>().unwrap().of(100), 1);
        assert_eq!("2k".parse::<Share>().unwrap().of(5), 2000);
        assert!("0".parse::<Share>().is_err());
        assert!("0%".parse::<Share>().is_err());
    }

    #[test]
    fn a_capacity_that_nobody_could_allocate_is_an_error_with_the_option_and_what_is_allowed() {
        let error = |text: &str, bytes| text.parse::<Share>().unwrap().capacity(1000, bytes).unwrap_err().to_string();
        for (text, bytes) in
            [("18446744073709551615", false), ("16g", false), ("1000000000000%", false), ("65GiB", true)]
        {
            let error = error(text, bytes);
            assert!(error.contains("--capacity") && error.contains("from 1 to"), "{error}");
        }
        assert_eq!("16g".parse::<Share>().unwrap().capacity(1, true).unwrap(), 16_000_000_000);
    }
}
