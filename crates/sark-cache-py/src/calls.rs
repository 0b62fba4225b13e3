//! Methods that Python calls without a detour: the raw form of the C interface.
//!
//! PyO3's methods sort arguments by name in general code and count how deep in Rust a thread is; that costs as much as a
//! look-up. The few methods that are called all the time are therefore written as functions over an array of arguments
//! (`METH_FASTCALL | METH_KEYWORDS`) and put on the type as method descriptors, which CPython 3.11 and later call directly.
//! This room turns the raw call into a safe one: [`Arguments`] in, a result or an exception out. It knows no cache.

use std::any::Any;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3::{PyClass, ffi};

use crate::object::Object;

/// What a method was called with.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a, 'py> {
    py: Python<'py>,
    /// Those by position, then those by name.
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    /// A tuple of str, or null.
    names: *mut ffi::PyObject,
}

impl<'a, 'py> Arguments<'a, 'py> {
    #[inline]
    pub(crate) fn py(&self) -> Python<'py> {
        self.py
    }

    /// The arguments in the order of `names`, the first `required` of which must be there.
    #[inline]
    pub(crate) fn parse<const N: usize>(
        &self,
        function: &str,
        names: &[&str; N],
        required: usize,
    ) -> PyResult<[Option<Borrowed<'a, 'py, PyAny>>; N]> {
        let mut parsed = [None; N];
        if self.values.len() > N || self.positional < required || !self.names.is_null() {
            self.parse_names(function, names, required, &mut parsed)?;
            return Ok(parsed);
        }
        for (place, &value) in parsed.iter_mut().zip(self.values) {
            *place = Some(self.borrow(value));
        }
        Ok(parsed)
    }

    #[inline]
    fn borrow(&self, value: *mut ffi::PyObject) -> Borrowed<'a, 'py, PyAny> {
        // SAFETY: Python keeps the arguments of a call alive until it returns, and that is what 'a stands for.
        unsafe { Borrowed::from_ptr(self.py, value) }
    }

    #[cold]
    fn parse_names(
        &self,
        function: &str,
        names: &[&str],
        required: usize,
        parsed: &mut [Option<Borrowed<'a, 'py, PyAny>>],
    ) -> PyResult<()> {
        if self.positional > names.len() {
            let (most, given) = (names.len(), self.positional);
            return Err(PyTypeError::new_err(format!("{function}() takes at most {most} arguments ({given} given)")));
        }
        let (by_position, by_name) = self.values.split_at(self.positional);
        for (place, &value) in parsed.iter_mut().zip(by_position) {
            *place = Some(self.borrow(value));
        }
        if !self.names.is_null() {
            let given = self.borrow(self.names).cast::<PyTuple>()?;
            for (name, &value) in given.iter().zip(by_name) {
                let name = name.cast_into::<PyString>()?;
                let name = name.to_str()?;
                let Some(place) = names.iter().position(|known| *known == name) else {
                    return Err(PyTypeError::new_err(format!(
                        "{function}() got an unexpected keyword argument '{name}'"
                    )));
                };
                if parsed[place].replace(self.borrow(value)).is_some() {
                    return Err(PyTypeError::new_err(format!(
                        "{function}() got multiple values for argument '{name}'"
                    )));
                }
            }
        }
        match parsed.iter().take(required).position(Option::is_none) {
            Some(missing) => {
                let name = names[missing];
                Err(PyTypeError::new_err(format!("{function}() missing required argument: '{name}'")))
            }
            None => Ok(()),
        }
    }
}

/// Runs the body of a method, and turns its result into what Python expects.
///
/// # Safety
/// Called by Python, attached, as a method of an instance of `C` with the arguments of a `METH_FASTCALL | METH_KEYWORDS` call.
#[inline(always)]
pub(crate) unsafe fn enter<C: PyClass>(
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl FnOnce(Borrowed<'_, '_, C>, Arguments<'_, '_>) -> PyResult<Object>,
) -> *mut ffi::PyObject {
    // SAFETY: Python holds the thread attached, `slf` is an instance of the class on which the descriptor is (the descriptor
    // checks), `values` has that many arguments by position and one more for each name, all alive until this returns.
    let (py, slf, arguments) = unsafe {
        let py = Python::assume_attached();
        let positional = positional.cast_unsigned();
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names).cast_unsigned() };
        let count = positional + named;
        let values = if count == 0 { &[] } else { std::slice::from_raw_parts(values, count) };
        (py, Borrowed::from_ptr(py, slf).cast_unchecked::<C>(), Arguments { py, values, positional, names })
    };
    // Shards stay valid when something panics; see `sark_shard`.
    match catch_unwind(AssertUnwindSafe(|| body(slf, arguments))) {
        Ok(Ok(object)) => object.into_ptr(),
        Ok(Err(error)) => {
            error.restore(py);
            std::ptr::null_mut()
        }
        Err(panic) => {
            report(panic).restore(py);
            std::ptr::null_mut()
        }
    }
}

/// A panic is a mistake of this module; Python gets an exception that it can catch.
#[cold]
fn report(panic: Box<dyn Any + Send>) -> PyErr {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    PyRuntimeError::new_err(format!("this is a bug in sark_cache: {}", text.unwrap_or("it panicked")))
}

/// The raw function behind a method.
pub(crate) type Function = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// Puts a method on a class. `doc` begins with the signature, as `inspect` reads it: `name($self, key)\n--\n\n`.
pub(crate) fn add_method(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    function: Function,
    doc: &'static CStr,
) -> PyResult<()> {
    let definition = ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    };
    // The descriptor refers to it for as long as it lives, which is as long as the process.
    let definition = Box::leak(Box::new(definition));
    // SAFETY: the class is a type, the definition lives for ever and says truly how the function is called; the descriptor
    // is a new reference or null with an exception set.
    let descriptor =
        unsafe { Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr(PyString::new(class.py(), &name.to_string_lossy()), descriptor)
}

/// Defines the raw function for the body of a method of a class.
macro_rules! method {
    ($name:ident, $class:ty, $body:path) => {
        unsafe extern "C" fn $name(
            slf: *mut pyo3::ffi::PyObject,
            values: *const *mut pyo3::ffi::PyObject,
            positional: pyo3::ffi::Py_ssize_t,
            names: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: Python calls this as a method of the class that it was put on, with METH_FASTCALL | METH_KEYWORDS.
            unsafe { $crate::calls::enter::<$class>(slf, values, positional, names, $body) }
        }
    };
}
pub(crate) use method;
