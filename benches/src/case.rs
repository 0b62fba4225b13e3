//! Cases: the `name=value` words that say what a row measured, and the filters that select some of them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::amount;

/// One case of a scenario, written `keys=10000 dist=uniform threads=1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case(Vec<(&'static str, String)>);

impl Case {
    /// Creates a case without words.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a word.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.0.push((name, value.to_string()));
        self
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(word, _)| *word == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            write!(formatter, "{}{name}={value}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// A filter for cases, like `keys=1M threads=1|2`: every word must fit, and `|` separates alternative values
/// of one word.
///
/// Words are separated by blanks or commas, so a case can be copied from a table unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted(Vec<(String, Vec<String>)>);

impl FromStr for Wanted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let words = words.map(|word| {
            let (name, values) = word.split_once('=').context("expected name=value, like keys=10000")?;
            Ok((name.to_owned(), values.split('|').map(str::to_owned).collect()))
        });
        words.collect::<Result<_>>().map(Self)
    }
}

impl Wanted {
    /// Returns true if the case has every word, with one of the wanted values.
    pub fn fits(&self, case: &Case) -> bool {
        self.0
            .iter()
            .all(|(name, values)| case.value(name).is_some_and(|is| values.iter().any(|wanted| same_value(wanted, is))))
    }
}

fn same_value(wanted: &str, is: &str) -> bool {
    wanted == is || amount::parse(wanted).is_ok_and(|wanted| amount::parse(is).is_ok_and(|is| wanted == is))
}

/// Returns those of `all` that fit at least one of the wishes, or all of them if there are no wishes.
///
/// # Errors
/// If none fits; the message lists the cases there are.
pub fn choose<T>(all: Vec<T>, wishes: &[Wanted], case: impl Fn(&T) -> Case) -> Result<Vec<T>> {
    let names: Vec<String> = all.iter().map(|one| case(one).to_string()).collect();
    let fits = |one: &T| wishes.is_empty() || wishes.iter().any(|wanted| wanted.fits(&case(one)));
    let chosen: Vec<T> = all.into_iter().filter(fits).collect();
    if chosen.is_empty() {
        bail!("no case fits --case; there are:\n  {}", names.join("\n  "));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Case {
        Case::new().with("keys", 1_000_000).with("dist", "zipf0.99").with("threads", 2)
    }

    #[test]
    fn a_case_reads_as_words() {
        assert_eq!(case().to_string(), "keys=1000000 dist=zipf0.99 threads=2");
    }

    #[test]
    fn all_words_must_fit_and_one_value_of_each() {
        for (text, fits) in [
            ("keys=1M", true),
            ("keys=1000000,threads=2", true),
            ("threads=1|2 dist=zipf0.99", true),
            ("keys=1M threads=8", false),
            ("batch=64", false),
        ] {
            assert_eq!(text.parse::<Wanted>().unwrap().fits(&case()), fits, "{text}");
        }
    }

    #[test]
    fn a_case_copied_from_a_table_picks_itself() {
        assert!(case().to_string().parse::<Wanted>().unwrap().fits(&case()));
    }

    #[test]
    fn a_wish_that_nothing_fits_shows_what_there_is() {
        let error = choose(vec![case()], &["keys=5".parse().unwrap()], Clone::clone).unwrap_err();
        assert!(error.to_string().contains("keys=1000000 dist=zipf0.99"), "{error}");
    }
}
