//! `PolicyFront`: key, look-up and decoding in one native call, on an engine that the caller passes.
//!
//! Its only state is counts. The generations are passed with each call and belong to Python, as do policy,
//! errors and logging.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::decoding;
use super::encoding::Uncacheable;
use super::keys::{KeyBuilder, Request, State};
use super::latency::Latency;
use crate::string_cache::RustCache;
use crate::user_code;

/// The keys of one policy cache, and look-ups under them. Not for applications.
#[pyclass(frozen, module = "sark_cache._core")]
pub(crate) struct PolicyFront {
    keys: KeyBuilder,
    /// `json.loads`, for text that isn't decoded here.
    loads: Py<PyAny>,
    hits: AtomicU64,
    misses: AtomicU64,
    uncacheable: AtomicU64,
    latency: Latency,
}

#[pymethods]
impl PolicyFront {
    #[new]
    fn new(prefix: String, revision: &Bound<'_, PyAny>, volatile: Vec<String>) -> PyResult<Self> {
        let keys = KeyBuilder::new(prefix, revision, volatile)
            .map_err(|Uncacheable| PyTypeError::new_err("policy_revision must be a str or None"))?;
        Ok(Self {
            keys,
            loads: user_code::import(revision.py(), "json")?.getattr("loads")?.unbind(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            uncacheable: AtomicU64::new(0),
            latency: Latency::default(),
        })
    }

    /// Returns the key of a request under the generations in `state`, or None if it can't have one.
    fn key(
        &self,
        state: State<'_>,
        user_id: &Bound<'_, PyAny>,
        action: &Bound<'_, PyAny>,
        resource: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
    ) -> Option<String> {
        self.keys.key(&state, &Request { user: user_id, action, resource, context }).ok()
    }

    /// Returns the decision in `engine` on a request, as a new dict, or None. Counts a hit or a miss, unless
    /// it raises.
    fn get<'py>(
        &self,
        engine: &Bound<'py, RustCache>,
        state: State<'py>,
        user_id: &Bound<'py, PyAny>,
        action: &Bound<'py, PyAny>,
        resource: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.look_up(engine, &state, &Request { user: user_id, action, resource, context })
    }

    /// Does what `get` does for each tuple `(user_id, action, resource, context)`, in order. A decision that
    /// can't be decoded is None, and its error is in the second list.
    fn get_batch<'py>(
        &self,
        engine: &Bound<'py, RustCache>,
        state: State<'py>,
        requests: &Bound<'py, PyList>,
    ) -> PyResult<(Bound<'py, PyList>, Vec<PyErr>)> {
        let py = requests.py();
        // All requests are checked before anything is looked up or counted.
        let requests = requests.iter().map(four).collect::<PyResult<Vec<_>>>()?;
        let (decisions, mut errors) = (PyList::empty(py), Vec::new());
        for [user, action, resource, context] in &requests {
            let request = Request { user, action, resource, context };
            let decision = self.look_up(engine, &state, &request).unwrap_or_else(|error| {
                errors.push(error);
                None
            });
            decisions.append(decision)?;
        }
        Ok((decisions, errors))
    }

    /// Returns `(hits, misses, uncacheable, buckets, nanoseconds)` since the last call. The last two cover
    /// only the look-ups that were timed.
    fn take_counts(&self) -> (u64, u64, u64, Vec<u64>, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let (buckets, nanos) = self.latency.take();
        (take(&self.hits), take(&self.misses), take(&self.uncacheable), buckets, nanos)
    }
}

impl PolicyFront {
    fn look_up<'py>(
        &self,
        engine: &Bound<'py, RustCache>,
        state: &State<'py>,
        request: &Request<'_, 'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let start = Latency::start(self.hits.load(Ordering::Relaxed));
        let Ok(key) = self.keys.key(state, request) else {
            self.uncacheable.fetch_add(1, Ordering::Relaxed);
            self.misses.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        };
        // The text is copied out, so that Python objects are made of it after the shard is free again.
        let Some(text) = engine.get().cache.get(&key) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        };
        let decision = decoding::decision(engine.py(), &text, &self.loads)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        if let Some(start) = start {
            self.latency.record(start.elapsed());
        }
        Ok(Some(decision))
    }
}

/// The parts of a request that is passed as a tuple.
fn four(request: Bound<'_, PyAny>) -> PyResult<[Bound<'_, PyAny>; 4]> {
    let request = request.cast_into::<PyTuple>()?;
    let part = |index| request.get_item(index);
    if request.len() != 4 {
        let given = request.len();
        return Err(PyValueError::new_err(format!("requests must be tuples of 4, one of {given} was given")));
    }
    Ok([part(0)?, part(1)?, part(2)?, part(3)?])
}
