//! `Cache`: Python objects under any hashable keys, with LRU eviction and deadlines.
//!
//! This file has the class as Python sees it, and its garbage collection. `store` and `whole` implement the
//! operations, `arrival` lets entries in, `find` finds keys, `hooks` calls the caller's functions, `clock`
//! reads the time, `outgoing` carries out what leaves, and `copying` makes copies. The hot methods are in
//! `fast`. Whatever needs no speed is written in Python (`python/sark_cache`): views, the content of a copy,
//! and waiting for another caller.

mod arrival;
mod clock;
mod copying;
mod fast;
mod find;
mod hooks;
mod outgoing;
mod store;
mod whole;

use std::sync::OnceLock;

use pyo3::exceptions::{PyKeyError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::arguments;
use crate::key::Sought;
use crate::object::Object;
use crate::stats::Stats;
use crate::user_code;
use hooks::{Hook, Hooks};
use store::{Found, Store};

pub(crate) use fast::install;

/// A bounded cache of any objects under any hashable keys, with LRU eviction and expiry.
///
/// * maxsize: the greatest number of entries or, with getsizeof, the greatest sum of their sizes.
/// * ttl: how many seconds an entry is kept; None for ever.
/// * tti: how many seconds an entry is kept after its last use; None for ever.
/// * getsizeof(value): returns the size of a value, an int.
/// * on_evict(key, value, cause): is told about each entry that leaves; cause is "size", "expired",
///   "replaced" or "explicit".
/// * timer(): returns the time in seconds, in place of a monotonic clock.
/// * shards: the most parts that threads can work on at once. Every build uses one today, which keeps the
///   order of eviction exact.
/// * name: appears in repr and statistics.
///
/// >>> cache = Cache(1000, ttl=60)
/// >>> cache["user:1"] = "allow"
/// >>> cache.get("user:1")
/// 'allow'
#[pyclass(frozen, subclass, weakref, generic, mapping, module = "sark_cache")]
pub(crate) struct Cache {
    /// Set by `__init__`.
    store: OnceLock<Store>,
}

impl Cache {
    /// The state in which `__new__` leaves a cache.
    pub(crate) fn uninitialised() -> Self {
        Self { store: OnceLock::new() }
    }

    #[inline]
    pub(crate) fn store(&self) -> PyResult<&Store> {
        self.store.get().ok_or_else(not_initialised)
    }
}

/// A function of the package's Python part, imported on first use.
fn python<'py>(py: Python<'py>, module: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
    user_code::import(py, &format!("sark_cache.{module}"))?.getattr(name)
}

#[cold]
fn not_initialised() -> PyErr {
    PyRuntimeError::new_err("Cache.__init__() was not called")
}

#[pymethods]
impl Cache {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(maxsize, *, ttl=None, tti=None, getsizeof=None, on_evict=None, timer=None, shards=None, \
                          name=None)",
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::uninitialised()
    }

    #[expect(clippy::too_many_arguments, reason = "the settings")]
    #[pyo3(
        signature = (maxsize, *, ttl=None, tti=None, getsizeof=None, on_evict=None, timer=None, shards=None, name=None)
    )]
    fn __init__(
        &self,
        maxsize: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tti: Option<&Bound<'_, PyAny>>,
        getsizeof: Option<&Bound<'_, PyAny>>,
        on_evict: Option<&Bound<'_, PyAny>>,
        timer: Option<&Bound<'_, PyAny>>,
        shards: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let maxsize = arguments::size("maxsize", maxsize)?;
        let ttl = arguments::lifetime("ttl", ttl)?;
        let tti = arguments::lifetime("tti", tti)?;
        let name = name.map(|name| arguments::text("name", name).map(str::to_owned)).transpose()?;
        let shards = arguments::shards(shards)?;
        let store = Store::new(maxsize, ttl, tti, Hooks::new(getsizeof, on_evict, timer)?, shards, name);
        self.store.set(store).map_err(|_| PyRuntimeError::new_err("Cache.__init__() was called twice"))
    }

    // These four serve subclasses and calls by name. The operators of `Cache` itself go to `fast`.

    fn __getitem__<'py>(slf: &Bound<'py, Self>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().store()?.get(&Sought::new(key.as_borrowed())?)? {
            Some(value) => Ok(value.into_bound(slf.py())),
            None => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.store()?.set(&Sought::new(key.as_borrowed())?, value.as_borrowed(), None)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.store()?.pop(&Sought::new(key.as_borrowed())?)? {
            Some(_) => Ok(()),
            None => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.store()?.contains(&Sought::new(key.as_borrowed())?)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(usize::try_from(self.store()?.used(py)?.entries).unwrap_or(usize::MAX))
    }

    /// Iterates over the keys, least recently used first, as they are now, whatever happens to the cache
    /// meanwhile.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let keys = self.store()?.entries(py)?.into_iter().map(|Found { key, .. }| key.into_bound(py));
        PyList::new(py, keys.collect::<Vec<_>>())?.try_iter()
    }

    /// Returns the value of `key`, or `default`, without changing the order or the counts.
    #[pyo3(signature = (key, default=None))]
    fn peek<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = self.store()?.peek(&Sought::new(key.as_borrowed())?)?;
        Ok(found.map(|found| found.value.into_bound(key.py())).or(default))
    }

    /// Returns the value of `key`; if it isn't there, stores and returns `default`. Atomic.
    #[pyo3(signature = (key, default=None, *, ttl=None))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
        ttl: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let ttl = arguments::optional_seconds("ttl", ttl)?;
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        let value = self.store()?.setdefault(&Sought::new(key.as_borrowed())?, default.as_borrowed(), ttl)?;
        Ok(value.into_bound(py))
    }

    /// Removes and returns the least recently used entry as (key, value). Raises KeyError if the cache is empty.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        match self.store()?.popitem(py)? {
            Some((key, value)) => Ok((key.into_bound(py), value.into_bound(py))),
            None => Err(PyKeyError::new_err("popitem(): the cache is empty")),
        }
    }

    /// Returns how many seconds `key` has left if it isn't used: None if it isn't there, inf if it doesn't
    /// expire. Changes neither the order nor the counts.
    fn expires_in(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let found = self.store()?.peek(&Sought::new(key.as_borrowed())?)?;
        Ok(found.map(|found| found.remaining.map_or(f64::INFINITY, |nanos| nanos as f64 / 1e9)))
    }

    /// Adds `delta` to the int or float stored under `key` and returns the sum. Atomic.
    ///
    /// If `key` isn't there, stores `default + delta` for `ttl` seconds. An existing entry keeps its
    /// time-to-live and its size.
    #[pyo3(
        signature = (key, delta=None, *, default=None, ttl=None),
        text_signature = "($self, key, delta=1, *, default=0, ttl=None)",
    )]
    fn incr<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        delta: Option<Bound<'py, PyAny>>,
        default: Option<Bound<'py, PyAny>>,
        ttl: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let ttl = arguments::optional_seconds("ttl", ttl)?;
        let whole = |number: i64| number.into_pyobject(py).map(Bound::into_any);
        let delta = delta.map_or_else(|| whole(1), Ok)?;
        let default = default.map_or_else(|| whole(0), Ok)?;
        let sought = Sought::new(key.as_borrowed())?;
        Ok(self.store()?.incr(&sought, delta.as_borrowed(), default.as_borrowed(), ttl)?.into_bound(py))
    }

    /// Returns the value of `key`; if it isn't there, calls `factory()` and stores the result for `ttl` seconds.
    ///
    /// If several threads miss the same key, one calls its factory and the others wait for it. If the factory
    /// raises, the waiting threads raise too, and nothing is stored. A value larger than the whole cache
    /// isn't stored either.
    #[pyo3(signature = (key, factory, ttl=None))]
    fn get_or_set<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        factory: &Bound<'py, PyAny>,
        ttl: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let store = slf.get().store()?;
        let seconds = arguments::optional_seconds("ttl", ttl)?;
        arguments::callable("factory", factory)?;
        if let Some(value) = store.get(&Sought::new(key.as_borrowed())?)? {
            return Ok(value.into_bound(py));
        }
        let flights = store.flights(py)?;
        let seconds = seconds.map(|ttl| ttl.as_secs_f64()).into_pyobject(py)?;
        user_code::call(&flights.getattr(intern!(py, "get_or_set"))?, [slf, key, factory, &seconds])
    }

    /// Stores every pair of a mapping, or of an iterable of pairs, for `ttl` seconds.
    #[pyo3(signature = (pairs, ttl=None))]
    fn set_many(&self, pairs: &Bound<'_, PyAny>, ttl: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let store = self.store()?;
        let ttl = arguments::optional_seconds("ttl", ttl)?;
        for (key, value) in arguments::pairs(pairs)? {
            store.set(&Sought::new(key.as_borrowed())?, value.as_borrowed(), ttl)?;
        }
        Ok(())
    }

    /// Removes `keys`, and returns how many of them were there.
    fn delete_many(&self, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
        let store = self.store()?;
        let mut there = 0;
        for key in arguments::items("keys", "keys", keys)? {
            let key = Object::from(key?);
            let sought = Sought::new(key.bind(keys.py()).as_borrowed())?;
            there += usize::from(store.pop(&sought)?.is_some());
        }
        Ok(there)
    }

    /// Stores the pairs of a mapping or an iterable of pairs, and those given by name, as a dict does.
    #[pyo3(signature = (pairs=None, /, **named), text_signature = "($self, pairs=(), /, **named)")]
    fn update(&self, pairs: Option<&Bound<'_, PyAny>>, named: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        for pairs in [pairs, named.map(|named| named.as_any())].into_iter().flatten() {
            self.set_many(pairs, None)?;
        }
        Ok(())
    }

    /// Returns a live view of the keys, least recently used first.
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        user_code::call(&python(slf.py(), "_mapping", "CacheKeys")?, [slf])
    }

    /// Returns a live view of the values, in the order of the keys. Iterating over it is not a use.
    fn values<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        user_code::call(&python(slf.py(), "_mapping", "CacheValues")?, [slf])
    }

    /// Returns a live view of the pairs, in the order of the keys. Iterating over it is not a use.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        user_code::call(&python(slf.py(), "_mapping", "CacheItems")?, [slf])
    }

    /// Removes everything.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.store()?.clear(py)
    }

    /// Reclaims every entry past its deadline, and returns how many there were.
    fn expire(&self, py: Python<'_>) -> PyResult<usize> {
        self.store()?.expire(py)
    }

    /// Changes `maxsize`. If it shrinks, the least recently used entries are evicted before this returns.
    fn resize(&self, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        self.store()?.resize(maxsize.py(), arguments::size("maxsize", maxsize)?)
    }

    /// Returns the counts since the cache was made.
    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        Ok(self.store()?.counters(py)?.into())
    }

    /// The bound on the number of entries or, with getsizeof, on the sum of their sizes.
    #[getter]
    fn maxsize(&self) -> PyResult<u64> {
        Ok(self.store()?.maxsize())
    }

    /// How much of maxsize is in use now.
    #[getter]
    fn currsize(&self, py: Python<'_>) -> PyResult<u64> {
        self.store()?.currsize(py)
    }

    /// How many seconds an entry is kept; None for ever.
    #[getter]
    fn ttl(&self) -> PyResult<Option<f64>> {
        Ok(self.store()?.ttl.map(|ttl| ttl.as_secs_f64()))
    }

    /// How many seconds an entry is kept after its last use; None for ever.
    #[getter]
    fn tti(&self) -> PyResult<Option<f64>> {
        Ok(self.store()?.tti.map(|tti| tti.as_secs_f64()))
    }

    /// The most shards that the cache may have, or None for the cache's own choice. Not how many it has: see
    /// the class.
    #[getter]
    fn shards(&self) -> PyResult<Option<u64>> {
        Ok(self.store()?.shards)
    }

    /// The name that the cache was given, or None.
    #[getter]
    fn name(&self) -> PyResult<Option<&str>> {
        Ok(self.store()?.name.as_deref())
    }

    /// Returns whether the other mapping has the same pairs.
    fn __eq__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        user_code::call(&python(slf.py(), "_mapping", "equal")?, [slf, other])
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    /// Removes everything at the end of a `with` block.
    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.clear(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let store = slf.get().store()?;
        let (class, maxsize, currsize) = (slf.get_type().qualname()?, store.maxsize(), store.currsize(slf.py())?);
        Ok(match &store.name {
            Some(name) => format!("{class}(maxsize={maxsize}, currsize={currsize}, name={name:?})"),
            None => format!("{class}(maxsize={maxsize}, currsize={currsize})"),
        })
    }

    /// Returns the memory that the cache takes in bytes, without its keys and values, as other containers do.
    fn __sizeof__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        let py = slf.py();
        let object: usize = py.get_type::<PyAny>().call_method1(intern!(py, "__sizeof__"), (slf,))?.extract()?;
        let contents = slf.get().store.get().map_or(Ok(0), |store| store.memory(py))?;
        Ok(object + contents)
    }

    /// Stores a value computed for a caller that gets it in any case. Returns false if it is larger than the
    /// whole cache.
    #[pyo3(signature = (key, value, ttl=None))]
    fn _keep(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let ttl = arguments::optional_seconds("ttl", ttl)?;
        Ok(self.store()?.try_set(&Sought::new(key.as_borrowed())?, value.as_borrowed(), ttl)?.is_none())
    }

    /// Returns (key, value, seconds left or None) of all live entries at one moment, least recently used
    /// first. For views and copies.
    fn _entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let entries = self.store()?.entries(py)?.into_iter();
        let entries = entries
            .map(|entry| (entry.key.into_bound(py), entry.value.into_bound(py), entry.remaining.map(seconds)))
            .collect::<Vec<_>>();
        PyList::new(py, entries)
    }

    /// Returns the arguments that `__init__` was called with. For copies.
    fn _settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let store = self.store()?;
        let settings = PyDict::new(py);
        settings.set_item("maxsize", store.maxsize())?;
        settings.set_item("ttl", self.ttl()?)?;
        settings.set_item("tti", self.tti()?)?;
        settings.set_item("shards", store.shards)?;
        settings.set_item("name", &store.name)?;
        for (name, hook) in [("getsizeof", Hook::GetSizeOf), ("on_evict", Hook::OnEvict), ("timer", Hook::Timer)] {
            settings.set_item(name, store.hooks.function(py, hook)?)?;
        }
        Ok(settings)
    }

    /// Returns what pickling and copying need: settings, entries with the time they have left, and the
    /// attributes of a subclass.
    fn __getstate__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        copying::get_state(slf)
    }

    fn __setstate__<'py>(slf: &Bound<'py, Self>, state: &Bound<'py, PyAny>) -> PyResult<()> {
        copying::set_state(slf, state)
    }

    /// Works the same in all protocols of pickle.
    fn __reduce_ex__<'py>(slf: &Bound<'py, Self>, protocol: i32) -> PyResult<Bound<'py, PyAny>> {
        copying::reduce(slf, protocol)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.store.get().map_or(Ok(()), |store| store.visit(&visit))
    }

    fn __clear__(&self) {
        Python::attach(|py| {
            if let Some(Err(error)) = self.store.get().map(|store| store.give_up(py)) {
                error.write_unraisable(py, None);
            }
        });
    }
}
