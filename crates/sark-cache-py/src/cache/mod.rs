//! `Cache`: Python objects under any hashable keys, least recently used out first, with deadlines.
//!
//! `store` has the operations, `find` finds keys, `hooks` calls the caller's functions, `clock` knows the time, `outgoing`
//! carries out what leaves. Here is the class: what Python sees, and the garbage collector. The methods that are called all
//! the time are in `fast`. What needs no speed is Python: views, pickling, waiting for each other (`python/sark_cache`).

mod clock;
mod fast;
mod find;
mod hooks;
mod outgoing;
mod store;

use std::sync::OnceLock;

use pyo3::exceptions::{PyKeyError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::arguments;
use crate::key::Sought;
use crate::stats::Stats;
use hooks::Hooks;
use store::{Found, Store};

pub(crate) use fast::install;

/// A bounded cache of any objects under any hashable keys: least recently used out first, with time-to-live.
///
/// maxsize: how many entries; with getsizeof, the sum of their sizes. ttl: seconds that an entry is kept, for ever if
/// None. tti: seconds that it is kept after its last use. getsizeof(value): its size, an int. on_evict(key, value, cause): told
/// of each entry that leaves, cause being "size", "expired", "replaced" or "explicit". timer(): the time in seconds, instead
/// of a monotonic clock. name: for repr and statistics.
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
    #[inline]
    pub(crate) fn store(&self) -> PyResult<&Store> {
        self.store.get().ok_or_else(uninitialised)
    }
}

#[cold]
fn uninitialised() -> PyErr {
    PyRuntimeError::new_err("Cache.__init__() was not called")
}

#[pymethods]
impl Cache {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize, *, ttl=None, tti=None, getsizeof=None, on_evict=None, timer=None, name=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { store: OnceLock::new() }
    }

    #[expect(clippy::too_many_arguments, reason = "the settings")]
    #[pyo3(signature = (maxsize, *, ttl=None, tti=None, getsizeof=None, on_evict=None, timer=None, name=None))]
    fn __init__(
        &self,
        maxsize: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tti: Option<&Bound<'_, PyAny>>,
        getsizeof: Option<&Bound<'_, PyAny>>,
        on_evict: Option<&Bound<'_, PyAny>>,
        timer: Option<&Bound<'_, PyAny>>,
        name: Option<String>,
    ) -> PyResult<()> {
        let maxsize = arguments::size("maxsize", maxsize)?;
        let ttl = arguments::lifetime("ttl", ttl)?;
        let tti = arguments::lifetime("tti", tti)?;
        let store = Store::new(maxsize, ttl, tti, Hooks::new(getsizeof, on_evict, timer)?, name);
        self.store.set(store).map_err(|_| PyRuntimeError::new_err("Cache.__init__() was called twice"))
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match slf.get().store()?.get(&Sought::new(key.as_borrowed())?)? {
            Some(value) => Ok(value.into_bound(slf.py())),
            None => Err(PyKeyError::new_err(key.clone().unbind())),
        }
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.store()?.set(&Sought::new(key.as_borrowed())?, value.as_borrowed(), None)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.store()?.pop(&Sought::new(key.as_borrowed())?)? {
            Some(_) => Ok(()),
            None => Err(PyKeyError::new_err(key.clone().unbind())),
        }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.store()?.contains(&Sought::new(key.as_borrowed())?)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(usize::try_from(self.store()?.used(py)?.entries).unwrap_or(usize::MAX))
    }

    /// The keys, least recently used first: those that are there now, whatever happens meanwhile.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let keys = self.store()?.entries(py)?.into_iter().map(|Found { key, .. }| key.into_bound(py));
        PyList::new(py, keys.collect::<Vec<_>>())?.try_iter()
    }

    /// The value of `key`, or `default`, without a trace: order and counts stay as they are.
    #[pyo3(signature = (key, default=None))]
    fn peek<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = self.store()?.peek(&Sought::new(key.as_borrowed())?)?;
        Ok(found.map(|found| found.value.into_bound(key.py())).or(default))
    }

    /// The value of `key`; if it isn't there, `default`, which is stored. One step.
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

    /// Removes and returns the least recently used entry, as (key, value). KeyError if there is none.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        match self.store()?.popitem(py)? {
            Some((key, value)) => Ok((key.into_bound(py), value.into_bound(py))),
            None => Err(PyKeyError::new_err("popitem(): the cache is empty")),
        }
    }

    /// Seconds that `key` will still be there if nobody uses it: None if it isn't there, inf if it doesn't expire. Leaves no
    /// trace.
    fn expires_in(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let found = self.store()?.peek(&Sought::new(key.as_borrowed())?)?;
        Ok(found.map(|found| found.remaining.map_or(f64::INFINITY, |nanos| nanos as f64 / 1e9)))
    }

    /// Adds `delta` to the int or float of `key` and returns the sum; if it isn't there, stores `default + delta` for `ttl`
    /// seconds. One step. The time-to-live and the size of an entry that is there stay.
    #[pyo3(signature = (key, delta=None, *, default=None, ttl=None))]
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

    /// Removes everything.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.store()?.clear(py)
    }

    /// Reclaims everything that is past its time; how many entries that was.
    fn expire(&self, py: Python<'_>) -> PyResult<usize> {
        self.store()?.expire(py)
    }

    /// Changes `maxsize`; if it is smaller now, the least recently used entries leave before this returns.
    fn resize(&self, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        self.store()?.resize(maxsize.py(), arguments::size("maxsize", maxsize)?)
    }

    /// What has happened so far.
    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        Ok(self.store()?.counters(py)?.into())
    }

    /// The bound: of entries, or of the sum of their sizes.
    #[getter]
    fn maxsize(&self) -> PyResult<u64> {
        Ok(self.store()?.maxsize())
    }

    /// What is used of it now.
    #[getter]
    fn currsize(&self, py: Python<'_>) -> PyResult<u64> {
        self.store()?.currsize(py)
    }

    /// Seconds that an entry is kept, None for ever.
    #[getter]
    fn ttl(&self) -> PyResult<Option<f64>> {
        Ok(self.store()?.ttl.map(|ttl| ttl.as_secs_f64()))
    }

    /// Seconds that an entry is kept after its last use, None for ever.
    #[getter]
    fn tti(&self) -> PyResult<Option<f64>> {
        Ok(self.store()?.tti.map(|tti| tti.as_secs_f64()))
    }

    /// What it was named.
    #[getter]
    fn name(&self) -> PyResult<Option<&str>> {
        Ok(self.store()?.name.as_deref())
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
