//! The hot methods of `Cache`, in the raw form of `calls`.

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyList, PyTuple, PyType};
use smallvec::SmallVec;

use super::Cache;
use crate::arguments;
use crate::calls::{Arguments, add_method, mapping, method, replace_mapping_slots};
use crate::key::Sought;
use crate::object::Object;
use crate::user_code;

type Slf<'a, 'py> = Borrowed<'a, 'py, Cache>;

/// `default`, or None.
#[inline]
fn or_none(py: Python<'_>, default: Option<Borrowed<'_, '_, PyAny>>) -> Object {
    default.map_or_else(|| Object::from(py.None().into_bound(py)), Object::new)
}

#[inline]
fn get(slf: Slf<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let [Some(key), default] = arguments.parse("get", &["key", "default"], 1)? else { unreachable!("it is required") };
    match slf.get().store()?.get(&Sought::new(key)?)? {
        Some(value) => Ok(value),
        None => Ok(or_none(arguments.py(), default)),
    }
}
method!(raw_get, Cache, get);

#[inline]
fn set(slf: Slf<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let [Some(key), Some(value), ttl] = arguments.parse("set", &["key", "value", "ttl"], 2)? else {
        unreachable!("they are required")
    };
    let ttl = match ttl {
        Some(ttl) => arguments::optional_seconds("ttl", Some(&ttl))?,
        None => None,
    };
    slf.get().store()?.set(&Sought::new(key)?, value, ttl)?;
    Ok(or_none(arguments.py(), None))
}
method!(raw_set, Cache, set);

fn subscript(slf: Slf<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let key = arguments.first();
    slf.get().store()?.get(&Sought::new(key.as_borrowed())?)?.ok_or_else(|| missing(key))
}

fn set_item(slf: Slf<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let [key, value] = arguments.by_position() else { unreachable!("__setitem__ has two arguments") };
    slf.get().store()?.set(&Sought::new(key.as_borrowed())?, value.as_borrowed(), None)?;
    Ok(or_none(arguments.py(), None))
}

fn delete_item(slf: Slf<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let key = arguments.first();
    slf.get().store()?.pop(&Sought::new(key.as_borrowed())?)?.ok_or_else(|| missing(key))
}

fn is_in(slf: Slf<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let there = slf.get().store()?.contains(&Sought::new(arguments.first().as_borrowed())?)?;
    Ok(truth(arguments.py(), there))
}
mapping!(raw_mapping, Cache, subscript, set_item, delete_item, is_in);

#[cold]
fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
}

#[inline]
fn truth(py: Python<'_>, value: bool) -> Object {
    Object::new(PyBool::new(py, value).as_any().as_borrowed())
}

fn pop(slf: Slf<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let [Some(key), default] = arguments.parse("pop", &["key", "default"], 1)? else { unreachable!("it is required") };
    match (slf.get().store()?.pop(&Sought::new(key)?)?, default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(Object::new(default)),
        (None, None) => Err(missing(&key)),
    }
}
method!(raw_pop, Cache, pop);

fn touch(slf: Slf<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let [Some(key), ttl] = arguments.parse("touch", &["key", "ttl"], 1)? else { unreachable!("it is required") };
    let ttl = arguments::optional_seconds("ttl", ttl.as_deref())?;
    let there = slf.get().store()?.touch(&Sought::new(key)?, ttl)?;
    Ok(truth(arguments.py(), there))
}
method!(raw_touch, Cache, touch);

/// How many keys are hashed and then looked up in one hold. The working memory for them is on the stack.
const WINDOW: usize = 32;

fn get_many(slf: Slf<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let py = arguments.py();
    let [Some(keys), default] = arguments.parse("get_many", &["keys", "default"], 1)? else {
        unreachable!("it is required")
    };
    let store = slf.get().store()?;
    // Copied unless it is a tuple, since hashing a key may run code that changes it.
    let keys = if let Ok(list) = keys.cast_exact::<PyList>() {
        list.to_tuple()
    } else if let Ok(tuple) = keys.cast_exact::<PyTuple>() {
        Bound::clone(&tuple)
    } else {
        let keys = arguments::items("keys", "keys", &keys)?;
        user_code::call(py.get_type::<PyTuple>().as_any(), [keys.as_object()])?.cast_into::<PyTuple>()?
    };
    let default = or_none(py, default);
    let mut values: Vec<Object> = Vec::with_capacity(keys.len());
    // Filled in place: collecting into a result would move it, and it takes a kilobyte.
    let mut sought: SmallVec<[Sought<'_, '_>; WINDOW]> = SmallVec::new();
    for window in keys.as_slice().chunks(WINDOW) {
        sought.clear();
        for key in window {
            sought.push(Sought::new(key.as_borrowed())?);
        }
        store.get_many(py, &sought, |value| values.push(value.unwrap_or_else(|| default.another())))?;
    }
    Ok(Object::from(PyList::new(py, values.into_iter().map(|value| value.into_bound(py)))?.into_any()))
}
method!(raw_get_many, Cache, get_many);

/// Adds these methods to the class.
pub(crate) fn install(class: &Bound<'_, PyType>) -> PyResult<()> {
    replace_mapping_slots(class, &raw_mapping::SLOTS);
    add_method(
        class,
        c"get",
        raw_get,
        c"get($self, /, key, default=None)\n--\n\n\
          Returns the value of `key`, or `default`. A hit makes it the most recently used.",
    )?;
    add_method(
        class,
        c"set",
        raw_set,
        c"set($self, /, key, value, ttl=None)\n--\n\n\
          Stores `value` for `ttl` seconds, or for the cache's own time. 0: don't store, and forget an older \
          value; inf: for ever. Raises ValueError if the value is larger than the whole cache.",
    )?;
    add_method(
        class,
        c"pop",
        raw_pop,
        c"pop($self, /, key, default=...)\n--\n\n\
          Removes `key` and returns its value. If it isn't there, returns `default` or raises KeyError.",
    )?;
    add_method(
        class,
        c"touch",
        raw_touch,
        c"touch($self, /, key, ttl=None)\n--\n\n\
          Gives `key` a new time-to-live from now on: `ttl` seconds, or the cache's own. Returns whether it was \
          there. Does not count as a use.",
    )?;
    add_method(
        class,
        c"get_many",
        raw_get_many,
        c"get_many($self, /, keys, default=None)\n--\n\n\
          Returns a list of the values of `keys`, in their order, with `default` where there is none.",
    )
}
