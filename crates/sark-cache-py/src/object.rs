//! A reference to a Python object, as shards hold it.
//!
//! PyO3's `Py` checks at each drop whether the thread is attached to the interpreter, and puts the object on
//! a list if it isn't. Everything that holds an [`Object`] is itself inside a Python object or on the stack
//! of a call from Python. It is therefore always dropped while attached, and the reference is released at
//! once. Nothing here runs Python code except [`Drop`], which may run any.

use std::mem::ManuallyDrop;

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit, ffi};

use crate::user_code;

/// A counted reference, never null. It is created, cloned and dropped only by threads attached to the
/// interpreter.
#[repr(transparent)]
pub(crate) struct Object(ManuallyDrop<Py<PyAny>>);

impl Object {
    /// Takes a new reference.
    #[inline]
    pub(crate) fn new(object: Borrowed<'_, '_, PyAny>) -> Self {
        Self(ManuallyDrop::new(Bound::clone(&object).unbind()))
    }

    /// Creates a new str. This may happen while the string cache's shard is held, because only threads in a
    /// call from Python run that shard.
    #[inline]
    pub(crate) fn text(text: &str) -> Self {
        // SAFETY: every thread that creates an `Object` is attached.
        let py = unsafe { Python::assume_attached() };
        Self(ManuallyDrop::new(PyString::new(py, text).into_any().unbind()))
    }

    /// Takes another reference to the same object.
    #[inline]
    pub(crate) fn another(&self) -> Self {
        // SAFETY: every thread that uses an `Object` is attached.
        let py = unsafe { Python::assume_attached() };
        Self(ManuallyDrop::new(self.0.clone_ref(py)))
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    /// Passes the reference to the caller, as Python's C functions expect.
    #[inline]
    pub(crate) fn into_ptr(self) -> *mut ffi::PyObject {
        let pointer = self.as_ptr();
        std::mem::forget(self);
        pointer
    }

    #[inline]
    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    #[inline]
    pub(crate) fn into_bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        // SAFETY: the pointer is an owned reference, and nothing else releases it.
        unsafe { Bound::from_owned_ptr(py, self.into_ptr()) }
    }

    /// Shows the object to the garbage collector.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.0)
    }
}

impl From<Bound<'_, PyAny>> for Object {
    #[inline]
    fn from(object: Bound<'_, PyAny>) -> Self {
        Self(ManuallyDrop::new(object.unbind()))
    }
}

/// May run any Python code, so it never happens while a shard is owned.
impl Drop for Object {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this owns a reference and is dropped while attached, because an `Object` lives only in
        // Python objects and on the stacks of calls from Python.
        unsafe {
            if ffi::Py_REFCNT(self.as_ptr()) == 1 {
                user_code::release(self.as_ptr());
            } else {
                ffi::Py_DECREF(self.as_ptr());
            }
        }
    }
}
