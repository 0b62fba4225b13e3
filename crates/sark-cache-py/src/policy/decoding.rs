//! From stored JSON to a dict, the very one that `json.loads` makes.
//!
//! What could differ is left to `json.loads` itself: integers beyond 64 bits, lone surrogates, deep nesting, and
//! everything that isn't JSON.

use jiter::{FloatMode, PartialMode, PythonParse, StringCacheMode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::user_code;

/// Names recur from decision to decision, so their strings are kept and shared; values may be anything, and aren't.
const PARSE: PythonParse = PythonParse {
    allow_inf_nan: true,
    cache_mode: StringCacheMode::Keys,
    partial_mode: PartialMode::Off,
    catch_duplicate_keys: false,
    float_mode: FloatMode::Float,
};

/// The decision in `text`, a new dict each time.
///
/// # Errors
/// What `loads` raises, and a ValueError if the text holds anything but an object.
pub(crate) fn decision<'py>(py: Python<'py>, text: &str, loads: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let decision = match PARSE.python_parse(py, text.as_bytes()) {
        Ok(decision) => decision,
        Err(_) => user_code::call(loads.bind(py), [&PyString::new(py, text)])?,
    };
    if decision.is_exact_instance_of::<PyDict>() {
        return Ok(decision);
    }
    let given = decision.get_type().name()?;
    Err(PyValueError::new_err(format!("a cached decision must be a JSON object, not {given}")))
}
