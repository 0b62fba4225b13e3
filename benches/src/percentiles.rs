//! Latencies of single operations: histograms of nanoseconds, and what rows show of them.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Creates an empty histogram of nanoseconds, with three significant digits. Times above a minute count as a
/// minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("the bounds and the precision are valid")
}

/// Adds what another thread or round measured.
pub fn merge(all: &mut Histogram<u64>, more: &Histogram<u64>) {
    all.add(more).expect("all histograms here have the same bounds");
}

/// Returns the percentiles that rows show, by name, and the number of operations.
///
/// A percentile beyond which not one operation would lie is null: it would only be the slowest operation
/// under another name.
pub fn summary(histogram: &Histogram<u64>) -> Value {
    let count = histogram.len();
    let at = |quantile: f64| reaches(count, quantile).then(|| histogram.value_at_quantile(quantile));
    json!({
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "p99.99": at(0.9999),
        "max": (count > 0).then(|| histogram.max()), "count": count,
    })
}

/// Returns whether there are enough operations for one to lie beyond the quantile.
pub fn reaches(count: u64, quantile: f64) -> bool {
    // 0.1 % of a thousand is one, whatever the last bit of 0.999 says.
    count as f64 * (1.0 - quantile) >= 1.0 - 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_operation_in_a_thousand_shows_at_its_percentile_and_not_before() {
        let (mut all, mut slow) = (histogram(), histogram());
        (0..998).for_each(|_| all.record(100).unwrap());
        (0..2).for_each(|_| slow.record(5_000_000).unwrap());
        merge(&mut all, &slow);
        let summary = summary(&all);
        assert_eq!((&summary["p50"], &summary["p99"], &summary["count"]), (&100.into(), &100.into(), &1000.into()));
        assert!(summary["p99.9"].as_u64().unwrap() >= 5_000_000);
    }

    #[test]
    fn a_percentile_beyond_which_nothing_lies_is_null_and_the_count_says_why() {
        let mut ten = histogram();
        (1..=10).for_each(|value| ten.record(value).unwrap());
        let ten = summary(&ten);
        assert_eq!(
            (&ten["p50"], &ten["p90"], &ten["max"], &ten["count"]),
            (&5.into(), &9.into(), &10.into(), &10.into())
        );
        assert!(["p99", "p99.9", "p99.99"].iter().all(|which| ten[*which].is_null()), "{ten}");
        assert!(summary(&histogram())["max"].is_null());
        assert!(reaches(1000, 0.999) && !reaches(999, 0.999));
    }
}
