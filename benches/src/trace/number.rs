//! Numbers in traces: decimal times parsed without floating point, and keys that are integers.

use anyhow::{Context, Result};

/// The unit in which a trace counts time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TimeUnit {
    /// Seconds, with or without decimals.
    #[default]
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl TimeUnit {
    /// Returns how many digits after the decimal point still make whole nanoseconds.
    fn decimals(self) -> u32 {
        match self {
            Self::S => 9,
            Self::Ms => 6,
            Self::Us => 3,
            Self::Ns => 0,
        }
    }

    /// Returns the nanoseconds in a decimal number of this unit. Digits below a nanosecond are dropped.
    pub(super) fn nanoseconds(self, text: &str) -> Result<u128> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let wrong = || format!("{text:?} is not a time: expected a number like 12 or 12.345");
        let decimals = self.decimals();
        let whole: u128 = whole.parse::<u64>().with_context(wrong)?.into();
        let mut nanoseconds = whole * 10_u128.pow(decimals);
        for (place, digit) in fraction.chars().enumerate() {
            let digit = digit.to_digit(10).with_context(wrong)?;
            if let Some(power) = decimals.checked_sub(place as u32 + 1) {
                nanoseconds += u128::from(digit) * 10_u128.pow(power);
            }
        }
        Ok(nanoseconds)
    }
}

/// Limits a time to 64 bits, since more than 584 years means "never" to a cache.
pub(super) fn saturate(nanoseconds: u128) -> u64 {
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

/// Returns an integer key as its 64 bits. Only the usual spelling counts as an integer, so that two spellings
/// stay two keys.
pub(super) fn integer_key(text: &str) -> Option<u64> {
    let number = text.parse::<i64>().ok()?;
    let usual = text == "0" || text.trim_start_matches('-').starts_with(|first: char| ('1'..='9').contains(&first));
    usual.then_some(number as u64)
}

/// Returns the spelling that [`integer_key`] read.
pub(super) fn integer_text(key: u64) -> String {
    (key as i64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_seconds_become_exact_nanoseconds() {
        assert_eq!(TimeUnit::S.nanoseconds("1521911720.865716").unwrap(), 1_521_911_720_865_716_000);
        assert_eq!(TimeUnit::S.nanoseconds("0.0000000019").unwrap(), 1);
        assert_eq!(TimeUnit::Ms.nanoseconds("1500").unwrap(), 1_500_000_000);
    }

    #[test]
    fn a_word_is_not_a_time() {
        assert!(TimeUnit::S.nanoseconds("soon").is_err());
        assert!(TimeUnit::S.nanoseconds("1.5x").is_err());
        assert!(TimeUnit::S.nanoseconds("-1").is_err());
    }

    #[test]
    fn two_spellings_of_a_number_are_two_keys() {
        assert_eq!(integer_key("7"), Some(7));
        assert_eq!(integer_key("-268435455"), Some(-268_435_455_i64 as u64));
        for other in ["07", "+7", "-0", "", "7a", "99999999999999999999"] {
            assert_eq!(integer_key(other), None, "{other}");
        }
    }

    #[test]
    fn an_integer_key_is_spelled_as_it_was_read() {
        for text in ["0", "12", "-5", "-9223372036854775808"] {
            assert_eq!(integer_text(integer_key(text).unwrap()), text);
        }
    }
}
