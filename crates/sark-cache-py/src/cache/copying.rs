//! Copies and pickles of caches, as far as Python's own way to them has to be told something.
//!
//! Settings, entries and attributes are gathered in Python (`sark_cache._mapping`). Here the values of `__slots__` join
//! them, which Python leaves to whoever defines `__getstate__`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Cache, python};
use crate::user_code;

/// Settings, entries and attributes.
const WITHOUT_SLOTS: usize = 3;

/// All that makes a copy: settings, entries with the time they have left, what a subclass keeps in its instances, and,
/// if there are any, the values of its slots.
pub(super) fn get_state<'py>(cache: &Bound<'py, Cache>) -> PyResult<Bound<'py, PyAny>> {
    let state = user_code::call(&python(cache.py(), "_mapping", "get_state")?, [cache])?;
    let slots = slots(cache)?;
    if slots.is_empty() { Ok(state) } else { state.add((slots,)) }
}

/// Makes an instance that `__init__` was not called on into the copy.
pub(super) fn set_state<'py>(cache: &Bound<'py, Cache>, state: &Bound<'py, PyAny>) -> PyResult<()> {
    let set_state = python(cache.py(), "_mapping", "set_state")?;
    let state_with_slots = state.cast::<PyTuple>().ok().filter(|state| state.len() == WITHOUT_SLOTS + 1);
    let Some(state) = state_with_slots else { return user_code::call(&set_state, [cache, state]).map(drop) };
    user_code::call(&set_state, [cache, &state.get_slice(0, WITHOUT_SLOTS)])?;
    let slots = state.get_item(WITHOUT_SLOTS)?.cast_into::<PyDict>()?;
    slots.iter().try_for_each(|(name, value)| user_code::set_attribute(cache, name.cast()?, &value))
}

/// How `pickle` and `copy` take a cache apart. Protocols 0 and 1 would have it made by the constructor, from itself;
/// what is meant for the later ones works in all.
pub(super) fn reduce<'py>(cache: &Bound<'py, Cache>, protocol: i32) -> PyResult<Bound<'py, PyAny>> {
    let reduce = cache.py().get_type::<PyAny>().getattr("__reduce_ex__")?;
    user_code::call(&reduce, [cache, protocol.max(2).into_pyobject(cache.py())?.as_any()])
}

/// The values of `__slots__` that are set, by name.
fn slots<'py>(cache: &Bound<'py, Cache>) -> PyResult<Bound<'py, PyDict>> {
    let py = cache.py();
    let slots = PyDict::new(py);
    // As `object` does it. Names that begin with two underscores are there as the class has them.
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
