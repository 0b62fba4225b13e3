//! Calls of user code, from which a thread may never come back.
//!
//! Daemon threads may still be running when the interpreter ends. Up to CPython 3.13, a thread that then asks
//! for the GIL is ended on the spot by `pthread_exit`, which unwinds its stack. It must not unwind ours: when
//! something other than a panic passes through Rust frames, they either abort the process or drop references
//! that they may no longer touch. So every call that may run Python code goes through this module. Where the
//! thread would be unwound, it stands still instead until the process is gone. CPython 3.14 does the same,
//! and so does PyO3 where it takes the GIL.
//!
//! A call that returns pays nothing for it.

use std::ffi::{c_double, c_int};
use std::mem::{forget, transmute};
use std::ptr;
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyString, PyTuple};
use pyo3::{PyErr, ffi};

use crate::object::Object;

/// Dropped only when the stack is unwound, as the first Rust value to be reached. No Rust code panics inside
/// its scope.
struct StandStill;

impl Drop for StandStill {
    #[cold]
    fn drop(&mut self) {
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
}

type Pointer = *mut ffi::PyObject;

/// Defines functions that do what functions of Python do, but don't return if the thread is ended inside
/// them. Being `extern "C"`, they never unwind, so their callers need not be prepared for it.
macro_rules! or_stand_still {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)? = $function:path;)*) => {$(
        /// # Safety
        /// The same as for the function in its definition.
        unsafe extern "C" fn $name($($argument: $kind),*) $(-> $result)? {
            type Plain = unsafe extern "C" fn($($kind),*) $(-> $result)?;
            type Unwinding = unsafe extern "C-unwind" fn($($kind),*) $(-> $result)?;
            // PyO3 declares it as a function that doesn't unwind. If the compiler knew which function this
            // is, it would trust that and leave out what is to happen on unwinding. So the pointer is read
            // from memory.
            static FUNCTION: Plain = $function;
            // SAFETY: a reference can be read. Both types are called alike and differ only in what the
            // compiler assumes about them. The rest is up to the caller.
            unsafe {
                let function = transmute::<Plain, Unwinding>(ptr::read_volatile(&raw const FUNCTION));
                let unwound = StandStill;
                let result = function($($argument),*);
                forget(unwound);
                result
            }
        }
    )*};
}

or_stand_still! {
    fn call_by_position(function: Pointer, arguments: *const Pointer, count: usize, named: Pointer) -> Pointer
        = ffi::PyObject_VectorcallDict;
    fn call_in_general(function: Pointer, arguments: Pointer, named: Pointer) -> Pointer = ffi::PyObject_Call;
    fn hash_of(object: Pointer) -> ffi::Py_hash_t = ffi::PyObject_Hash;
    fn compare(a: Pointer, b: Pointer, how: c_int) -> c_int = ffi::PyObject_RichCompareBool;
    fn iterator_of(iterable: Pointer) -> Pointer = ffi::PyObject_GetIter;
    fn next_of(iterator: Pointer) -> Pointer = ffi::PyIter_Next;
    fn item_of(mapping: Pointer, key: Pointer) -> Pointer = ffi::PyObject_GetItem;
    fn attribute_of(object: Pointer, name: Pointer) -> Pointer = ffi::PyObject_GetAttr;
    fn set_attribute_of(object: Pointer, name: Pointer, value: Pointer) -> c_int = ffi::PyObject_SetAttr;
    fn representation_of(object: Pointer) -> Pointer = ffi::PyObject_Repr;
    fn float_of(object: Pointer) -> c_double = ffi::PyFloat_AsDouble;
    fn module_of(name: Pointer) -> Pointer = ffi::PyImport_Import;
    fn report_raised(object: Pointer) = ffi::PyErr_WriteUnraisable;
    fn give_up(object: Pointer) = ffi::Py_DecRef;
}

/// Calls a function with positional arguments.
pub(crate) fn call<'py, const N: usize>(
    function: &Bound<'py, PyAny>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = arguments.map(Bound::as_ptr);
    let none = ptr::null_mut();
    // SAFETY: attached, as a `Bound` proves. All objects live until this returns. The result is a new
    // reference, or null with an exception set.
    unsafe {
        let result = call_by_position(function.as_ptr(), arguments.as_ptr(), N, none);
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}

/// Calls a function with any arguments.
pub(crate) fn call_with<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
    named: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as in `call`.
    unsafe {
        let result = call_in_general(function.as_ptr(), arguments.as_ptr(), named.as_ptr());
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}

/// Returns what `__hash__` returns.
#[inline]
pub(crate) fn hash(object: Borrowed<'_, '_, PyAny>) -> PyResult<isize> {
    // SAFETY: attached, and the object is alive.
    match unsafe { hash_of(object.as_ptr()) } {
        -1 => Err(PyErr::fetch(object.py())),
        hash => Ok(hash),
    }
}

/// Whether `a == b`, asking `a` first.
pub(crate) fn equal(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: attached, and both are alive.
    match unsafe { compare(a.as_ptr(), b.as_ptr(), ffi::Py_EQ) } {
        -1 => Err(PyErr::fetch(a.py())),
        answer => Ok(answer != 0),
    }
}

/// Iterates over an iterable.
pub(crate) fn iterate<'py>(iterable: &Bound<'py, PyAny>) -> PyResult<Items<'py>> {
    // SAFETY: as in `call`.
    let iterator = unsafe {
        let result = iterator_of(iterable.as_ptr());
        Bound::from_owned_ptr_or_err(iterable.py(), result)?
    };
    Ok(Items { py: iterable.py(), iterator: Object::from(iterator) })
}

/// A Python iterator.
pub(crate) struct Items<'py> {
    py: Python<'py>,
    iterator: Object,
}

impl<'py> Items<'py> {
    /// The iterator itself.
    pub(crate) fn as_object(&self) -> &Bound<'py, PyAny> {
        self.iterator.bind(self.py)
    }
}

impl<'py> Iterator for Items<'py> {
    type Item = PyResult<Bound<'py, PyAny>>;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: attached, as `py` proves. The iterator is one, and is alive. The result is a new reference,
        // or null.
        let item = unsafe {
            let result = next_of(self.iterator.as_ptr());
            Bound::from_owned_ptr_or_opt(self.py, result)
        };
        item.map(Ok).or_else(|| PyErr::take(self.py).map(Err))
    }
}

/// Returns `mapping[key]`.
pub(crate) fn item<'py>(mapping: &Bound<'py, PyAny>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as in `call`.
    unsafe { Bound::from_owned_ptr_or_err(mapping.py(), item_of(mapping.as_ptr(), key.as_ptr())) }
}

/// Returns an attribute, or `None` if the object doesn't have it. May call `__getattr__`.
pub(crate) fn attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = object.py();
    // SAFETY: as in `call`.
    let result = unsafe { Bound::from_owned_ptr_or_err(py, attribute_of(object.as_ptr(), name.as_ptr())) };
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => {
            // The error holds the frames that it passed through, and these may hold objects with finalizers.
            drop(Object::from(error.into_value(py).into_bound(py).into_any()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Sets an attribute. May call `__setattr__`.
pub(crate) fn set_attribute(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: attached, and all objects are alive.
    match unsafe { set_attribute_of(object.as_ptr(), name.as_ptr(), value.as_ptr()) } {
        -1 => Err(PyErr::fetch(object.py())),
        _ => Ok(()),
    }
}

/// Returns `repr(object)`. The result may be of a subclass of str, whose `__str__` isn't called.
pub(crate) fn representation(object: &Bound<'_, PyAny>) -> PyResult<String> {
    // SAFETY: as in `call`.
    let text = unsafe { Bound::from_owned_ptr_or_err(object.py(), representation_of(object.as_ptr()))? };
    Ok(text.cast_into::<PyString>()?.to_string_lossy().into_owned())
}

/// Converts a number as `float` does.
pub(crate) fn float(number: &Bound<'_, PyAny>) -> PyResult<f64> {
    if let Ok(float) = number.cast_exact::<PyFloat>() {
        return Ok(float.value());
    }
    // SAFETY: attached, and the object is alive.
    let float = unsafe { float_of(number.as_ptr()) };
    // -1 is the answer after an exception, but it may also be the number.
    let raised = if float.to_bits() == (-1.0_f64).to_bits() { PyErr::take(number.py()) } else { None };
    raised.map_or(Ok(float), Err)
}

/// Imports a module, which runs its code the first time.
pub(crate) fn import<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let name = PyString::new(py, name);
    // SAFETY: as in `call`.
    unsafe { Bound::from_owned_ptr_or_err(py, module_of(name.as_ptr())) }
}

/// Passes an error of `culprit` to `sys.unraisablehook`, which may be a user's function; the default one
/// writes to a file.
pub(crate) fn report(error: PyErr, culprit: &Bound<'_, PyAny>) {
    error.restore(culprit.py());
    // SAFETY: attached, an exception is set, and the object is alive.
    unsafe { report_raised(culprit.as_ptr()) }
}

/// Releases a reference that may be the last one, so `__del__` may run.
///
/// # Safety
/// The thread is attached. The reference is the caller's own, and isn't used afterwards.
#[inline]
pub(crate) unsafe fn release(object: Pointer) {
    // SAFETY: guaranteed by the caller.
    unsafe { give_up(object) }
}
