//! `RustCache`: the engine's plain string cache, for services that used to keep short strings in Redis.
//!
//! Strings are copied in and out, so a shard never holds a Python object, and no Python code runs while a
//! shard is held. The caller runs the shard itself (there are no worker threads) while attached to the
//! interpreter. Under a GIL the shard is therefore always idle when a call begins, and a forked child finds
//! it idle, too.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};
use sark_cache::{CacheError, LruTtlCache};

use crate::arguments;
use crate::calls::{Arguments, add_method, method};
use crate::object::Object;
use crate::stats::Stats;

/// A bounded cache of strings, with LRU eviction and a time-to-live for each entry.
///
/// Entries are kept for `ttl_secs` seconds unless `set` says otherwise.
///
/// >>> cache = RustCache(1000, 300)
/// >>> cache.set("user:1", "allow")
/// >>> cache.get("user:1")
/// 'allow'
#[pyclass(frozen, subclass, weakref, module = "sark_cache")]
pub(crate) struct RustCache {
    pub(crate) cache: LruTtlCache,
}

#[pymethods]
impl RustCache {
    #[new]
    fn new(max_size: &Bound<'_, PyAny>, ttl_secs: &Bound<'_, PyAny>) -> PyResult<Self> {
        let cache = LruTtlCache::new(arguments::size("max_size", max_size)?, arguments::size("ttl_secs", ttl_secs)?);
        Ok(Self { cache: cache.map_err(refused)? })
    }

    /// Stores `value` for `ttl` seconds, or for the cache's own time. 0: don't store, and forget an older value.
    #[pyo3(signature = (key, value, ttl=None))]
    fn set(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, ttl: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (key, value) = (arguments::text("key", key)?, arguments::text("value", value)?);
        let ttl = arguments::optional_seconds("ttl", ttl)?;
        self.cache.set(key.to_owned(), value.to_owned(), ttl).map_err(refused)
    }

    /// Removes `key`, and returns whether it was there and alive.
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.cache.delete(arguments::text("key", key)?))
    }

    /// Removes everything.
    fn clear(&self) {
        self.cache.clear();
    }

    /// Returns the number of live entries, after reclaiming everything due. Never above `max_size`.
    fn size(&self) -> u64 {
        self.cache.size()
    }

    /// Reclaims everything due, and returns how many entries expired since the last call, regardless of
    /// which call reclaimed them.
    fn cleanup_expired(&self) -> u64 {
        self.cache.cleanup_expired()
    }

    /// Returns `(value, seconds left, seconds it was stored for)`, or None. Counts as a use.
    fn get_with_ttl(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<(String, f64, f64)>> {
        let found = self.cache.get_with_ttl(arguments::text("key", key)?);
        Ok(found.map(|found| (found.text, found.remaining.as_secs_f64(), found.time_to_live.as_secs_f64())))
    }

    /// Returns the values of `keys` in their order, with None where there is none.
    fn get_many<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = keys.py();
        let keys = arguments::texts("keys", keys)?;
        let keys = keys.iter().map(|key| key.to_str()).collect::<PyResult<Vec<_>>>()?;
        // Keys are looked up one by one, so that each value becomes a str in place. That saves more than a
        // batch would, since the values of a batch are copies.
        let values = keys.into_iter().map(|key| self.text_of(key).map(|value| value.into_bound(py)));
        PyList::new(py, values.collect::<Vec<_>>())
    }

    /// Stores every pair of `mapping`, as `set` does one by one. Nothing is stored if any item isn't a pair of
    /// strings.
    #[pyo3(signature = (mapping, ttl=None))]
    fn set_many(&self, mapping: &Bound<'_, PyAny>, ttl: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let ttl = arguments::optional_seconds("ttl", ttl)?;
        let pairs = arguments::text_pairs("mapping", mapping)?;
        pairs.into_iter().try_for_each(|(key, value)| self.cache.set(key, value, ttl)).map_err(refused)
    }

    /// Removes `keys`, and returns how many of them were there and alive.
    fn delete_many(&self, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
        let keys = arguments::texts("keys", keys)?;
        let keys = keys.iter().map(|key| key.to_str()).collect::<PyResult<Vec<_>>>()?;
        Ok(keys.into_iter().filter(|key| self.cache.delete(key)).count())
    }

    /// Returns the counts since the cache was made.
    fn stats(&self) -> Stats {
        self.cache.as_cache().stats().into()
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.cache.size()).unwrap_or(usize::MAX)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.cache.as_cache().contains_key(arguments::text("key", key)?))
    }

    fn __repr__(&self) -> String {
        format!("RustCache(size={})", self.cache.size())
    }
}

impl RustCache {
    /// The value of a key, turned into a str in place, without a copy in between. A str is not collectable.
    #[inline]
    fn text_of(&self, key: &str) -> Option<Object> {
        self.cache.as_cache().get_with(key, |text| Object::text(text.as_str()))
    }
}

fn get(slf: Borrowed<'_, '_, RustCache>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let [Some(key)] = arguments.parse("get", &["key"], 1)? else { unreachable!("it is required") };
    let key = arguments::text("key", &key)?;
    let value = slf.get().text_of(key);
    Ok(value.unwrap_or_else(|| Object::from(arguments.py().None().into_bound(arguments.py()))))
}
method!(raw_get, RustCache, get);

/// Adds the raw method to the class.
pub(crate) fn install(class: &Bound<'_, PyType>) -> PyResult<()> {
    add_method(
        class,
        c"get",
        raw_get,
        c"get($self, /, key)\n--\n\nReturns the value of `key`, or None. A hit makes it the most recently used.",
    )
}

fn refused(error: CacheError) -> PyErr {
    PyValueError::new_err(error.to_string())
}
