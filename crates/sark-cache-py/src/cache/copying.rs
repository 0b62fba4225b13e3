//! Copying and pickling of caches, where Python's own protocols need help.
//!
//! `sark_cache._mapping` gathers settings, entries and attributes in Python. This module adds the values of
//! `__slots__`, which Python leaves to any class that defines `__getstate__`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Cache, python};
use crate::user_code;

/// The length of a state of settings, entries and attributes.
const WITHOUT_SLOTS: usize = 3;

/// Everything that a copy consists of: settings, entries with the time they have left, the attributes of a
/// subclass's instance and, if there are any, the values of its slots.
pub(super) fn get_state<'py>(cache: &Bound<'py, Cache>) -> PyResult<Bound<'py, PyAny>> {
    let state = user_code::call(&python(cache.py(), "_mapping", "get_state")?, [cache])?;
    let slots = slots(cache)?;
    if slots.is_empty() { Ok(state) } else { state.add((slots,)) }
}

/// Turns an instance whose `__init__` was not called into the copy.
pub(super) fn set_state<'py>(cache: &Bound<'py, Cache>, state: &Bound<'py, PyAny>) -> PyResult<()> {
    let set_state = python(cache.py(), "_mapping", "set_state")?;
    let state_with_slots = state.cast::<PyTuple>().ok().filter(|state| state.len() == WITHOUT_SLOTS + 1);
    let Some(state) = state_with_slots else { return user_code::call(&set_state, [cache, state]).map(drop) };
    user_code::call(&set_state, [cache, &state.get_slice(0, WITHOUT_SLOTS)])?;
    let slots = state.get_item(WITHOUT_SLOTS)?.cast_into::<PyDict>()?;
    slots.iter().try_for_each(|(name, value)| user_code::set_attribute(cache, name.cast()?, &value))
}

/// How `pickle` and `copy` take a cache apart. Protocols 0 and 1 would call the constructor with the cache
/// itself. What the later protocols do works in all of them.
pub(super) fn reduce<'py>(cache: &Bound<'py, Cache>, protocol: i32) -> PyResult<Bound<'py, PyAny>> {
    let reduce = cache.py().get_type::<PyAny>().getattr("__reduce_ex__")?;
    user_code::call(&reduce, [cache, protocol.max(2).into_pyobject(cache.py())?.as_any()])
}

/// The values of `__slots__` that are set, by name.
fn slots<'py>(cache: &Bound<'py, Cache>) -> PyResult<Bound<'py, PyDict>> {
    let py = cache.py();
    let slots = PyDict::new(py);
    // This is how `object` does it. Names that begin with two underscores come out as the class mangled them.
    let slot_names = user_code::import(py, "copyreg")?.getattr("_slotnames")?;
    let names = user_code::call(&slot_names, [&cache.get_type()])?;
    for name in names.try_iter()? {
        let name = name?.cast_into()?;
        if let Some(value) = user_code::attribute(cache, &name)? {
            slots.set_item(name, value)?;
        }
    }
    Ok(slots)
}
