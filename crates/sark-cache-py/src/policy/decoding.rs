//! Turns stored JSON into the same dict that `json.loads` makes.
//!
//! Where the result could differ, `json.loads` itself does the work: for integers beyond 64 bits, lone
//! surrogates, deep nesting, and everything that isn't JSON.

use jiter::{FloatMode, PartialMode, PythonParse, StringCacheMode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::user_code;

/// Names recur from decision to decision, so their strings are kept and shared. Values may be anything, so
/// they aren't.
const PARSE: PythonParse = PythonParse {
    allow_inf_nan: true,
    cache_mode: StringCacheMode::Keys,
    partial_mode: PartialMode::Off,
    catch_duplicate_keys: false,
    float_mode: FloatMode::Float,
};

/// Decodes the decision in `text`, into a new dict each time.
///
/// # Errors
/// Whatever `loads` raises, and a ValueError if the text holds anything but an object.
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
