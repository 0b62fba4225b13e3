//! What a cache reports about itself to Python.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Counts since the cache was made. Both caches return them from `stats()`.
#[pyclass(frozen, get_all, eq, module = "sark_cache")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Look-ups that found a live entry.
    hits: u64,
    /// Look-ups that found no entry, or one past its deadline.
    misses: u64,
    /// Entries stored under a new key.
    inserted: u64,
    /// Values replaced by a newer one for the same key.
    replaced: u64,
    /// Entries evicted to make room.
    evicted: u64,
    /// Entries that reached their deadline.
    expired: u64,
    /// Entries removed by the caller.
    removed: u64,
    /// Entries that were not stored: too heavy for the whole cache, or with a time-to-live of zero.
    rejected: u64,
}

#[pymethods]
impl Stats {
    /// Hits divided by look-ups, from 0 to 1; 0 if there was no look-up.
    #[getter]
    fn hit_ratio(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }

    /// Returns all counts by name.
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, count) in self.counts() {
            dict.set_item(name, count)?;
        }
        Ok(dict)
    }

    fn __repr__(&self) -> String {
        let counts: Vec<_> = self.counts().iter().map(|(name, count)| format!("{name}={count}")).collect();
        format!("Stats({})", counts.join(", "))
    }
}

impl Stats {
    fn counts(&self) -> [(&'static str, u64); 8] {
        [
            ("hits", self.hits),
            ("misses", self.misses),
            ("inserted", self.inserted),
            ("replaced", self.replaced),
            ("evicted", self.evicted),
            ("expired", self.expired),
            ("removed", self.removed),
            ("rejected", self.rejected),
        ]
    }
}

impl From<sark_cache::Stats> for Stats {
    fn from(stats: sark_cache::Stats) -> Self {
        Self {
            hits: stats.hits,
            misses: stats.misses,
            inserted: stats.inserted,
            replaced: stats.replaced,
            evicted: stats.evicted,
            expired: stats.expired,
            removed: stats.removed,
            rejected: stats.rejected,
        }
    }
}

impl From<sark_shard::Counters> for Stats {
    fn from(counters: sark_shard::Counters) -> Self {
        Self {
            hits: counters.hits,
            misses: counters.misses,
            inserted: counters.inserted,
            replaced: counters.replaced,
            evicted: counters.evicted,
            expired: counters.expired,
            removed: counters.explicit,
            rejected: counters.rejected,
        }
    }
}
