//! Calls of code that isn't ours, out of which a thread may never come back.
//!
//! When the interpreter ends, daemon threads are still somewhere. Up to CPython 3.13 one that asks for the GIL then is
//! ended where it stands by `pthread_exit`, which unwinds its stack, and must not unwind ours: frames of Rust either
//! abort the process when something passes through them that isn't a panic, or drop references that they are no longer
//! allowed to touch. So every call that may run Python code goes through here. Where it would be unwound, the thread
//! stands still instead, until the process is gone: what CPython 3.14 does by itself, and PyO3 where it takes the GIL.
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

/// Dropped only by what unwinds the stack, as the first thing of Rust that it meets. Nothing of Rust panics inside.
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

/// Defines functions that do what functions of Python's do, but don't return if the thread is ended in them. Being
/// `extern "C"`, they never unwind, so their callers need not be ready for it.
macro_rules! or_stand_still {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)? = $function:path;)*) => {$(
        /// # Safety
        /// As the function in its definition.
        unsafe extern "C" fn $name($($argument: $kind),*) $(-> $result)? {
            type Plain = unsafe extern "C" fn($($kind),*) $(-> $result)?;
            type Unwinding = unsafe extern "C-unwind" fn($($kind),*) $(-> $result)?;
            // PyO3 declares it as a function that doesn't unwind. The compiler would take its word and leave out what
            // is to happen when it does, if it knew which function this is: so it is read from memory.
            static FUNCTION: Plain = $function;
            // SAFETY: a reference can be read; both types are called alike, and differ in what the compiler believes of
            // them; the rest is up to the caller.
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

/// Calls a function with arguments by position.
pub(crate) fn call<'py, const N: usize>(
    function: &Bound<'py, PyAny>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = arguments.map(Bound::as_ptr);
    let none = ptr::null_mut();
    // SAFETY: attached, as a `Bound` shows; all of them live until this returns; the result is a new reference, or null
    // with an exception set.
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

/// What `__hash__` says.
#[inline]
pub(crate) fn hash(object: Borrowed<'_, '_, PyAny>) -> PyResult<isize> {
    // SAFETY: attached, and the object lives.
    match unsafe { hash_of(object.as_ptr()) } {
        -1 => Err(PyErr::fetch(object.py())),
        hash => Ok(hash),
    }
}

/// Whether `a == b`, which `a` is asked first.
pub(crate) fn equal(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: attached, and both live.
    match unsafe { compare(a.as_ptr(), b.as_ptr(), ffi::Py_EQ) } {
        -1 => Err(PyErr::fetch(a.py())),
        answer => Ok(answer != 0),
    }
}

/// What an iterable holds, one after the other.
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
        // SAFETY: attached, as `py` shows; the iterator is one, and lives; the result is a new reference, or null.
        let item = unsafe {
            let result = next_of(self.iterator.as_ptr());
            Bound::from_owned_ptr_or_opt(self.py, result)
        };
        item.map(Ok).or_else(|| PyErr::take(self.py).map(Err))
    }
}

/// What `mapping[key]` is.
pub(crate) fn item<'py>(mapping: &Bound<'py, PyAny>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as in `call`.
    unsafe { Bound::from_owned_ptr_or_err(mapping.py(), item_of(mapping.as_ptr(), key.as_ptr())) }
}

/// An attribute, if the object has it, for which its `__getattr__` may be asked.
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
            // It holds the frames that it came through, and with them what may have finalizers.
            drop(Object::from(error.into_value(py).into_bound(py).into_any()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Sets an attribute, which `__setattr__` may do.
pub(crate) fn set_attribute(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: attached, and all of them live.
    match unsafe { set_attribute_of(object.as_ptr(), name.as_ptr(), value.as_ptr()) } {
        -1 => Err(PyErr::fetch(object.py())),
        _ => Ok(()),
    }
}

/// What `repr` says. It may be of a subclass of str, whose `__str__` isn't asked.
pub(crate) fn representation(object: &Bound<'_, PyAny>) -> PyResult<String> {
    // SAFETY: as in `call`.
    let text = unsafe { Bound::from_owned_ptr_or_err(object.py(), representation_of(object.as_ptr()))? };
    Ok(text.cast_into::<PyString>()?.to_string_lossy().into_owned())
}

/// What `float` says of a number.
pub(crate) fn float(number: &Bound<'_, PyAny>) -> PyResult<f64> {
    if let Ok(float) = number.cast_exact::<PyFloat>() {
        return Ok(float.value());
    }
    // SAFETY: attached, and the object lives.
    let float = unsafe { float_of(number.as_ptr()) };
    // That is what it answers when it raised, but it may be the number as well.
    let raised = if float.to_bits() == (-1.0_f64).to_bits() { PyErr::take(number.py()) } else { None };
    raised.map_or(Ok(float), Err)
}

/// Imports a module, which runs it the first time.
pub(crate) fn import<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let name = PyString::new(py, name);
    // SAFETY: as in `call`.
    unsafe { Bound::from_owned_ptr_or_err(py, module_of(name.as_ptr())) }
}

/// Gives an error of `culprit` to `sys.unraisablehook`, which may be anybody's function, and else writes to a file.
pub(crate) fn report(error: PyErr, culprit: &Bound<'_, PyAny>) {
    error.restore(culprit.py());
    // SAFETY: attached, an exception is set, and the object lives.
    unsafe { report_raised(culprit.as_ptr()) }
}

/// Gives up a reference that may be the last one, so that `__del__` may run.
///
/// # Safety
/// Attached; the reference is the caller's own, and isn't used afterwards.
#[inline]
pub(crate) unsafe fn release(object: Pointer) {
    // SAFETY: the caller has it.
    unsafe { give_up(object) }
}
