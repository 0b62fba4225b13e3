//! The caller's own functions that a cache calls: `getsizeof`, `on_evict` and `timer`.
//!
//! They run on the calling thread with nothing owned, so they may do anything, the cache's own methods included. They
//! are kept apart from the shard and, like it, are given up to the garbage collector: a bound method of an object that
//! holds the cache is a cycle.

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit, intern};
use sark_shard::{Nanos, RemovalCause, Removed};

use crate::arguments;
use crate::key::Key;
use crate::object::Object;
use crate::ownership::Owned;
use crate::user_code;

/// Which function.
#[derive(Clone, Copy)]
pub(crate) enum Hook {
    GetSizeOf,
    OnEvict,
    Timer,
}

/// The functions, and which of them there are, so that a cache without any asks nobody.
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

    /// The function, unless the garbage collector has taken it.
    pub(crate) fn function<'py>(&self, py: Python<'py>, hook: Hook) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.has(hook) {
            return Ok(None);
        }
        let function = self.functions.run(py, |functions| functions[hook as usize].as_ref().map(Object::another))?;
        Ok(function.map(|function| function.into_bound(py)))
    }

    /// What `getsizeof` says of a value: 1 without it.
    pub(crate) fn weigh(&self, value: Borrowed<'_, '_, PyAny>) -> PyResult<u32> {
        let Some(getsizeof) = self.function(value.py(), Hook::GetSizeOf)? else { return Ok(1) };
        arguments::weight(&user_code::call(&getsizeof, [&value])?)
    }

    /// What `timer` says.
    pub(crate) fn time(&self, py: Python<'_>) -> PyResult<Nanos> {
        let Some(timer) = self.function(py, Hook::Timer)? else { return Ok(Nanos(0)) };
        let seconds = arguments::moment(&user_code::call(&timer, [])?)?;
        // Whole seconds and the rest apart: multiplied together they would lose digits. Casts saturate, as they should.
        let (whole, rest) = (seconds.trunc() as u64, (seconds.fract() * 1e9).round() as u64);
        Ok(Nanos(whole.saturating_mul(1_000_000_000).saturating_add(rest)))
    }

    /// Tells `on_evict` of what left the cache. Its errors go to `sys.unraisablehook`: the caller of the cache did
    /// nothing wrong, and the others are still to be told.
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

    /// Gives the functions up; the caller drops them with nothing owned.
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<[Option<Object>; 3]> {
        Ok(self.functions.run(py, std::mem::take)?)
    }
}

/// How listeners know a cause. `None` for entries that were never stored: nobody is told of those.
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
