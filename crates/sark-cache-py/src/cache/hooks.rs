//! The caller's own functions that a cache calls: `getsizeof`, `on_evict` and `timer`.
//!
//! They run on the calling thread while nothing is owned, so they may do anything, including calls of the
//! cache's own methods. They are stored apart from the shard and, like it, are released to the garbage
//! collector: a bound method of an object that holds the cache forms a cycle.

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit, intern};
use sark_shard::{Nanos, RemovalCause, Removed};

use crate::arguments;
use crate::key::Key;
use crate::object::Object;
use crate::ownership::Owned;
use crate::user_code;

/// Identifies one of the functions.
#[derive(Clone, Copy)]
pub(crate) enum Hook {
    GetSizeOf,
    OnEvict,
    Timer,
}

/// The functions, and a record of which are present, so that a missing one isn't looked up.
pub(crate) struct Hooks {
    functions: Owned<[Option<Object>; 3]>,
    present: [bool; 3],
}

impl Hooks {
    pub(crate) fn new(
        getsizeof: Option<&Bound<'_, PyAny>>,
        on_evict: Option<&Bound<'_, PyAny>>,
        timer: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let functions = [callable("getsizeof", getsizeof)?, callable("on_evict", on_evict)?, callable("timer", timer)?];
        let present = [functions[0].is_some(), functions[1].is_some(), functions[2].is_some()];
        Ok(Self { functions: Owned::new(functions), present })
    }

    /// Whether the cache was made with this function.
    #[inline]
    pub(crate) fn has(&self, hook: Hook) -> bool {
        self.present[hook as usize]
    }

    /// The function, unless the garbage collector has cleared it.
    pub(crate) fn function<'py>(&self, py: Python<'py>, hook: Hook) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.has(hook) {
            return Ok(None);
        }
        let function = self.functions.run(py, |functions| functions[hook as usize].as_ref().map(Object::another))?;
        Ok(function.map(|function| function.into_bound(py)))
    }

    /// The size that `getsizeof` returns for a value, or 1 without `getsizeof`.
    pub(crate) fn weigh(&self, value: Borrowed<'_, '_, PyAny>) -> PyResult<u32> {
        let Some(getsizeof) = self.function(value.py(), Hook::GetSizeOf)? else { return Ok(1) };
        arguments::weight(&user_code::call(&getsizeof, [&value])?)
    }

    /// The time that `timer` returns.
    pub(crate) fn time(&self, py: Python<'_>) -> PyResult<Nanos> {
        let Some(timer) = self.function(py, Hook::Timer)? else { return Ok(Nanos(0)) };
        let seconds = arguments::moment(&user_code::call(&timer, [])?)?;
        // Seconds and fractions are converted apart: multiplied together they would lose digits. The casts
        // saturate, as they should.
        let (whole, rest) = (seconds.trunc() as u64, (seconds.fract() * 1e9).round() as u64);
        Ok(Nanos(whole.saturating_mul(1_000_000_000).saturating_add(rest)))
    }

    /// Tells `on_evict` about what left the cache. Its errors go to `sys.unraisablehook`: the cache's caller
    /// did nothing wrong, and the remaining entries must still be reported.
    pub(crate) fn tell(&self, py: Python<'_>, removed: impl Iterator<Item = Removed<Key, Object>>) -> PyResult<()> {
        let Some(on_evict) = self.function(py, Hook::OnEvict)? else { return Ok(()) };
        for Removed { key, value, cause, .. } in removed {
            let Some(cause) = name_of(py, cause) else { continue };
            if let Err(error) = user_code::call(&on_evict, [key.object.bind(py), value.bind(py), cause]) {
                user_code::report(error, &on_evict);
            }
        }
        Ok(())
    }

    /// Shows the functions to the garbage collector.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visit_all = |functions: &mut [Option<Object>; 3]| {
            functions.iter().flatten().try_for_each(|function| function.visit(visit))
        };
        // SAFETY: called by the traversal alone.
        unsafe { self.functions.inspect(visit_all) }
    }

    /// Takes the functions out. The caller drops them while nothing is owned.
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<[Option<Object>; 3]> {
        Ok(self.functions.run(py, std::mem::take)?)
    }
}

/// The name that listeners get for a cause. `None` for entries that were never stored, which are not reported.
fn name_of(py: Python<'_>, cause: RemovalCause) -> Option<&Bound<'_, PyString>> {
    match cause {
        RemovalCause::Expired => Some(intern!(py, "expired")),
        RemovalCause::Explicit => Some(intern!(py, "explicit")),
        RemovalCause::Replaced => Some(intern!(py, "replaced")),
        RemovalCause::Size => Some(intern!(py, "size")),
        RemovalCause::Rejected => None,
    }
}

fn callable(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Object>> {
    match value {
        None => Ok(None),
        Some(value) => {
            arguments::callable(name, value)?;
            Ok(Some(Object::new(value.as_borrowed())))
        }
    }
}
