//! Checks what callers pass and what their functions return: sizes, counts, durations and texts.
//!
//! Every error names the argument, the value and what is allowed. A number that is too large is never an
//! error: it saturates. This module knows nothing of caches.

use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyMapping, PyString, PyTuple};

use crate::user_code::{self, Items};

/// A size of at least one. A size that doesn't fit into a `u64` means "no bound".
pub(crate) fn size(name: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    match whole(name, value)? {
        Some(size) if size > 0 => Ok(size),
        _ => Err(PyValueError::new_err(format!("{name} must be at least 1, not {}", shown(value)))),
    }
}

/// The most shards allowed, or `None` to leave the choice to the cache. A bool is refused, although Python
/// counts it as an int.
pub(crate) fn shards(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<u64>> {
    const NAME: &str = "shards";
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(None) };
    let refusal = || format!("{NAME} must be an int of at least 1, or None, not {}", shown(value));
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(PyTypeError::new_err(refusal()));
    }
    match whole(NAME, value)? {
        Some(shards) if shards > 0 => Ok(Some(shards)),
        _ => Err(PyValueError::new_err(refusal())),
    }
}

/// An integer: `u64::MAX` if it is larger than that, `None` if it is negative.
pub(crate) fn whole(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    if !value.is_instance_of::<PyInt>() {
        return Err(wrong_type(name, "an int", value));
    }
    match value.extract() {
        Ok(number) => Ok(Some(number)),
        Err(_) if value.lt(0)? => Ok(None),
        // Not negative, so it is too large.
        Err(_) => Ok(Some(u64::MAX)),
    }
}

/// A number of seconds: an int or a float that is neither negative nor NaN. A duration too long to count
/// lasts for ever.
pub(crate) fn seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    duration(name, value)?.ok_or_else(|| {
        PyValueError::new_err(format!("{name} must be a number of seconds, 0 or more, not {}", shown(value)))
    })
}

/// Like [`seconds`], but `None` for a negative number or NaN.
#[inline]
fn duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    if let Ok(float) = value.cast::<PyFloat>() {
        let seconds = float.value();
        let counts = seconds >= 0.0;
        return Ok(counts.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)));
    }
    if !value.is_instance_of::<PyInt>() {
        return Err(wrong_type(name, "an int or a float (seconds)", value));
    }
    Ok(whole(name, value)?.map(Duration::from_secs))
}

/// Like [`seconds`], but `None` for `None`.
pub(crate) fn optional_seconds(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    value.filter(|value| !value.is_none()).map(|value| seconds(name, value)).transpose()
}

/// A str that can be encoded as UTF-8. Lone surrogates raise UnicodeEncodeError.
pub(crate) fn text<'a>(name: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    text_object(name, value)?.to_str()
}

fn text_object<'a, 'py>(name: &str, value: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyString>> {
    value.cast::<PyString>().map_err(|_| wrong_type(name, "a str", value))
}

fn wrong_type(name: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let given = value.get_type().qualname().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} must be {wanted}, not {given}"))
}

/// The value as an error message shows it, or "that" if it has no representation, such as an int of thousands
/// of digits.
fn shown(value: &Bound<'_, PyAny>) -> String {
    user_code::representation(value).unwrap_or_else(|_| "that".to_owned())
}

/// Like [`optional_seconds`], for the lifetime of a whole cache, where zero makes no sense.
pub(crate) fn lifetime(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(None) };
    match duration(name, value)? {
        Some(lifetime) if !lifetime.is_zero() => Ok(Some(lifetime)),
        _ => Err(PyValueError::new_err(format!(
            "{name} must be a number of seconds of at least 1e-09, for time is counted in nanoseconds, or None, not {}",
            shown(value)
        ))),
    }
}

/// The size that `getsizeof` returned.
pub(crate) fn weight(size: &Bound<'_, PyAny>) -> PyResult<u32> {
    const NAME: &str = "the size that getsizeof returns";
    match whole(NAME, size)?.map(u32::try_from) {
        Some(Ok(weight)) => Ok(weight),
        Some(Err(_)) => {
            Err(PyOverflowError::new_err(format!("{NAME} must be at most {}, not {}", u32::MAX, shown(size))))
        }
        None => Err(PyValueError::new_err(format!("{NAME} must not be negative, not {}", shown(size)))),
    }
}

/// The seconds that `timer` returned.
pub(crate) fn moment(seconds: &Bound<'_, PyAny>) -> PyResult<f64> {
    let refusal = || format!("timer must return a number of seconds, not {}", shown(seconds));
    match user_code::float(seconds) {
        Ok(number) if number.is_nan() => Err(PyValueError::new_err(refusal())),
        Ok(number) => Ok(number),
        Err(error) if error.is_instance_of::<PyTypeError>(seconds.py()) => Err(PyTypeError::new_err(refusal())),
        Err(error) if error.is_instance_of::<PyOverflowError>(seconds.py()) => {
            Err(PyOverflowError::new_err(format!("timer must return what fits into a float, not {}", shown(seconds))))
        }
        Err(error) => Err(error),
    }
}

/// Checks that `value` can be called.
pub(crate) fn callable(name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_callable() { Ok(()) } else { Err(wrong_type(name, "callable", value)) }
}

/// The elements of an iterable. `wanted` names them in the error message.
pub(crate) fn items<'py>(name: &str, wanted: &str, value: &Bound<'py, PyAny>) -> PyResult<Items<'py>> {
    user_code::iterate(value).map_err(|error| {
        let refused = error.is_instance_of::<PyTypeError>(value.py());
        if refused { wrong_type(name, &format!("an iterable of {wanted}"), value) } else { error }
    })
}

/// All elements of an iterable of str, collected before any of them is used.
pub(crate) fn texts<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyString>>> {
    let each = format!("each of {name}");
    items(name, "str", value)?.map(|item| item.and_then(|item| text_object(&each, &item).cloned())).collect()
}

/// All pairs of a mapping from str to str, collected before any of them is used.
pub(crate) fn text_pairs(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    if !value.is_instance_of::<PyMapping>() {
        return Err(wrong_type(name, "a mapping from str to str", value));
    }
    let (each_key, each_value) = (format!("each key of {name}"), format!("each value of {name}"));
    let owned = |(key, value): Pair<'_>| Ok((text(&each_key, &key)?.to_owned(), text(&each_value, &value)?.to_owned()));
    pairs(value)?.into_iter().map(owned).collect()
}

/// A key and a value.
type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// All pairs of a mapping or of an iterable of pairs, collected before any of them is used. `dict` defines
/// what counts as a mapping and what as a pair.
pub(crate) fn pairs<'py>(pairs: &Bound<'py, PyAny>) -> PyResult<Vec<Pair<'py>>> {
    let py = pairs.py();
    if let Some(items) = user_code::attribute(pairs, intern!(py, "items"))? {
        return user_code::iterate(&user_code::call(&items, [])?)?.map(|item| pair(&item?)).collect();
    }
    if let Some(keys) = user_code::attribute(pairs, intern!(py, "keys"))? {
        let keys = user_code::iterate(&user_code::call(&keys, [])?)?;
        return keys.map(|key| key.and_then(|key| Ok((key.clone(), user_code::item(pairs, &key)?)))).collect();
    }
    match user_code::iterate(pairs) {
        Ok(items) => items.map(|item| pair(&item?)).collect(),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            Err(wrong_type("pairs", "a mapping or an iterable of pairs", pairs))
        }
        Err(error) => Err(error),
    }
}

/// One element of an iterable of pairs, which is any iterable of exactly two things.
fn pair<'py>(item: &Bound<'py, PyAny>) -> PyResult<Pair<'py>> {
    if let Ok(tuple) = item.cast_exact::<PyTuple>()
        && let [key, value] = tuple.as_slice()
    {
        return Ok((key.clone(), value.clone()));
    }
    let elements = match user_code::iterate(item) {
        Ok(elements) => elements,
        Err(error) if error.is_instance_of::<PyTypeError>(item.py()) => {
            return Err(wrong_type("each of pairs", "a key and a value", item));
        }
        Err(error) => return Err(error),
    };
    // A third element is enough to know that there are too many, and the iterable may be endless.
    let elements = elements.take(3).collect::<PyResult<Vec<_>>>()?;
    match <[_; 2]>::try_from(elements) {
        Ok([key, value]) => Ok((key, value)),
        Err(elements) => {
            let count = if elements.len() < 3 { elements.len().to_string() } else { "more".to_owned() };
            Err(PyValueError::new_err(format!("each of pairs must have 2 elements, a key and a value, not {count}")))
        }
    }
}
