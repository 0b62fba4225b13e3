//! Methods that Python calls directly, through the raw form of the C interface.
//!
//! PyO3's methods sort arguments by name in general code and count how deep in Rust a thread is, which costs
//! as much as a look-up. The few hot methods are therefore written as functions over an array of arguments
//! (`METH_FASTCALL | METH_KEYWORDS`) and put on the type as method descriptors, which CPython 3.11 and later
//! call directly. This module turns the raw call into a safe one: [`Arguments`] in, a result or an exception
//! out. It knows nothing of caches.

use std::any::Any;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3::{PyClass, ffi};
use smallvec::SmallVec;

use crate::object::Object;

/// Keyword arguments.
pub(crate) type Named<'py> = SmallVec<[(Bound<'py, PyString>, Bound<'py, PyAny>); 4]>;

/// The arguments of one call.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a, 'py> {
    py: Python<'py>,
    /// The positional arguments, then the values of the keyword arguments.
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    /// The names of the keyword arguments, a tuple of str, or null.
    names: *mut ffi::PyObject,
}

impl<'a, 'py> Arguments<'a, 'py> {
    #[inline]
    pub(crate) fn py(&self) -> Python<'py> {
        self.py
    }

    /// Returns the arguments in the order of `names`. The first `required` of them must be there.
    #[inline]
    pub(crate) fn parse<const N: usize>(
        &self,
        function: &str,
        names: &[&str; N],
        required: usize,
    ) -> PyResult<[Option<Borrowed<'a, 'py, PyAny>>; N]> {
        if self.names.is_null() && (required..=N).contains(&self.positional) {
            // The compiler knows this length, so no loop remains.
            return Ok(std::array::from_fn(|index| self.values.get(index).map(|&value| self.borrow(value))));
        }
        let mut parsed = [None; N];
        self.parse_names(function, names, required, &mut parsed)?;
        Ok(parsed)
    }

    /// The argument of a call with exactly one, which is positional.
    #[inline]
    pub(crate) fn alone(&self) -> Option<&'a Bound<'py, PyAny>> {
        match self.by_position() {
            [argument] if self.names.is_null() => Some(argument),
            _ => None,
        }
    }

    /// The first argument, for functions that have one.
    #[inline]
    pub(crate) fn first(&self) -> &'a Bound<'py, PyAny> {
        &self.by_position()[0]
    }

    /// The positional arguments.
    #[inline]
    pub(crate) fn by_position(&self) -> &'a [Bound<'py, PyAny>] {
        let values = &self.values[..self.positional];
        // SAFETY: `Bound` is a transparent pointer to an object that is alive, and a shared reference to a
        // `Bound` releases nothing.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
    }

    /// The keyword arguments.
    #[inline]
    pub(crate) fn by_name(&self) -> PyResult<Named<'py>> {
        if self.names.is_null() {
            return Ok(Named::new());
        }
        let names = self.borrow(self.names).cast::<PyTuple>()?;
        let values = self.values[self.positional..].iter().map(|&value| Bound::clone(&self.borrow(value)));
        names.iter().zip(values).map(|(name, value)| Ok((name.cast_into::<PyString>()?, value))).collect()
    }

    #[inline]
    fn borrow(&self, value: *mut ffi::PyObject) -> Borrowed<'a, 'py, PyAny> {
        // SAFETY: Python keeps the arguments of a call alive until it returns, and 'a stands for that time.
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
/// Python, with the thread attached, must call this as a method of an instance of `C`, with the arguments of
/// a `METH_FASTCALL | METH_KEYWORDS` call.
#[inline(always)]
pub(crate) unsafe fn enter<C: PyClass>(
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl FnOnce(Borrowed<'_, '_, C>, Arguments<'_, '_>) -> PyResult<Object>,
) -> *mut ffi::PyObject {
    // SAFETY: Python holds the thread attached. `slf` is an instance of the class that the descriptor is on
    // (the descriptor checks). `values` holds as many positional arguments as stated, plus one for each name,
    // and all are alive until this returns.
    let (slf, arguments) = unsafe {
        let py = Python::assume_attached();
        let positional = positional.cast_unsigned();
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names).cast_unsigned() };
        let count = positional + named;
        let values = if count == 0 { &[] } else { std::slice::from_raw_parts(values, count) };
        (Borrowed::from_ptr(py, slf).cast_unchecked::<C>(), Arguments { py, values, positional, names })
    };
    // Shards stay valid if something panics; see `sark_shard`.
    match catch_unwind(AssertUnwindSafe(|| body(slf, arguments))) {
        Ok(Ok(object)) => object.into_ptr(),
        Ok(Err(error)) => raise(error),
        Err(panic) => raise(report(panic)),
    }
}

/// Hands an exception to Python. This attaches again, because raw calls don't tell PyO3 that the thread is
/// attached, and PyO3 would defer the release of what the error refers to. During the interpreter's shutdown
/// attaching is refused, and the release is deferred.
#[cold]
fn raise(error: PyErr) -> *mut ffi::PyObject {
    let mut error = Some(error);
    let restored = Python::try_attach(|py| error.take().map(|error| error.restore(py)));
    if restored.is_none()
        && let Some(error) = error
    {
        // SAFETY: this runs on the way out of a call from Python.
        error.restore(unsafe { Python::assume_attached() });
    }
    std::ptr::null_mut()
}

/// Turns a panic, which is a bug of this module, into an exception that Python can catch.
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

/// Adds a method to a class. `doc` begins with the signature that `inspect` reads: `name($self, key)\n--\n\n`.
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
    // The descriptor refers to the definition for as long as it lives, which is as long as the process.
    let definition = Box::leak(Box::new(definition));
    // SAFETY: the class is a type. The definition lives for ever and describes correctly how the function is
    // called. The descriptor is a new reference, or null with an exception set.
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
            // SAFETY: Python calls this as a method of the class that it was put on, with METH_FASTCALL |
            // METH_KEYWORDS.
            unsafe { $crate::calls::enter::<$class>(slf, values, positional, names, $body) }
        }
    };
}
pub(crate) use method;

/// Defines the raw functions behind `obj[key]`, `obj[key] = value` with `del obj[key]`, and `key in obj`.
/// Bodies get the key, or key and value, as arguments. The first body's result is returned, the last one's
/// truth is returned, and the other results are dropped.
macro_rules! mapping {
    ($slots:ident, $class:ty, $get:path, $set:path, $delete:path, $contains:path) => {
        mod $slots {
            use pyo3::ffi;

            use super::*;

            pub(super) const SLOTS: $crate::calls::MappingSlots = $crate::calls::MappingSlots { get, assign, contains };

            unsafe extern "C" fn get(slf: *mut ffi::PyObject, key: *mut ffi::PyObject) -> *mut ffi::PyObject {
                // SAFETY: Python calls this as `__getitem__` of the class whose slot it is in.
                unsafe { $crate::calls::enter::<$class>(slf, &raw const key, 1, std::ptr::null_mut(), $get) }
            }

            unsafe extern "C" fn assign(
                slf: *mut ffi::PyObject,
                key: *mut ffi::PyObject,
                value: *mut ffi::PyObject,
            ) -> std::ffi::c_int {
                let (pair, none) = ([key, value], std::ptr::null_mut());
                // SAFETY: Python calls this as `__setitem__`, or without a value as `__delitem__`, of the
                // class whose slot it is in.
                let done = unsafe {
                    if value.is_null() {
                        $crate::calls::enter::<$class>(slf, pair.as_ptr(), 1, none, $delete)
                    } else {
                        $crate::calls::enter::<$class>(slf, pair.as_ptr(), 2, none, $set)
                    }
                };
                // SAFETY: an owned reference, or null.
                unsafe { $crate::calls::truth(done) }.min(0)
            }

            unsafe extern "C" fn contains(slf: *mut ffi::PyObject, key: *mut ffi::PyObject) -> std::ffi::c_int {
                let none = std::ptr::null_mut();
                // SAFETY: Python calls this as `__contains__` of the class whose slot it is in.
                let found = unsafe { $crate::calls::enter::<$class>(slf, &raw const key, 1, none, $contains) };
                // SAFETY: an owned reference, or null.
                unsafe { $crate::calls::truth(found) }
            }
        }
    };
}
pub(crate) use mapping;

/// The functions that [`mapping`] defines.
pub(crate) struct MappingSlots {
    pub(crate) get: ffi::binaryfunc,
    pub(crate) assign: ffi::objobjargproc,
    pub(crate) contains: ffi::objobjproc,
}

/// Converts a result to 1 for True, 0 for anything else, and -1 for an exception.
///
/// # Safety
/// `result` is an owned reference, which this releases, or null with an exception set.
pub(crate) unsafe fn truth(result: *mut ffi::PyObject) -> std::ffi::c_int {
    if result.is_null() {
        return -1;
    }
    // SAFETY: as above.
    unsafe {
        let truth = result == ffi::Py_True();
        ffi::Py_DECREF(result);
        truth.into()
    }
}

/// Replaces the slot functions that PyO3 made by raw ones, before the class is used or inherited from.
pub(crate) fn replace_mapping_slots(class: &Bound<'_, PyType>, slots: &MappingSlots) {
    let class = class.as_type_ptr();
    // SAFETY: the class was made by this module, has no subclasses yet, and has both tables, since it defines
    // these methods. The functions expect instances of this class, and what is in these slots is only ever
    // called with those.
    unsafe {
        (*(*class).tp_as_mapping).mp_subscript = Some(slots.get);
        (*(*class).tp_as_mapping).mp_ass_subscript = Some(slots.assign);
        (*(*class).tp_as_sequence).sq_contains = Some(slots.contains);
        ffi::PyType_Modified(class);
    }
}

/// The function through which Python calls an instance: a field of its class that never changes.
#[repr(transparent)]
pub(crate) struct Vectorcall(ffi::vectorcallfunc);

impl Vectorcall {
    pub(crate) const fn new(function: ffi::vectorcallfunc) -> Self {
        Self(function)
    }
}

/// Makes the instances of a class callable through the field that `field` returns, and lets `obj.f(x)` call
/// `f(obj, x)` if `f` is such an instance. Must be called before there is any instance but `sample`.
pub(crate) fn make_callable<C>(sample: &Bound<'_, C>, field: impl FnOnce(&C) -> &Vectorcall) -> PyResult<()>
where
    C: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync,
{
    // PyO3 decides where the field is, so its offset is measured.
    let offset = std::ptr::from_ref(field(sample.get())).addr() - sample.as_ptr().addr();
    let offset = ffi::Py_ssize_t::try_from(offset)?;
    let class = sample.as_any().get_type().as_type_ptr();
    // SAFETY: the class was made by this module and has no subclasses and no instances but the sample, so
    // these slots have not been read yet. Each instance has a function pointer at the offset, which never
    // changes.
    unsafe {
        (*class).tp_vectorcall_offset = offset;
        (*class).tp_call = Some(ffi::PyVectorcall_Call);
        add_flags(class, ffi::Py_TPFLAGS_HAVE_VECTORCALL | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR);
        ffi::PyType_Modified(class);
    }
    Ok(())
}

#[cfg(not(Py_GIL_DISABLED))]
unsafe fn add_flags(class: *mut ffi::PyTypeObject, flags: std::ffi::c_ulong) {
    // SAFETY: the caller passes a class that isn't in use yet.
    unsafe { (*class).tp_flags |= flags }
}

#[cfg(Py_GIL_DISABLED)]
unsafe fn add_flags(class: *mut ffi::PyTypeObject, flags: std::ffi::c_ulong) {
    // SAFETY: the caller passes a class that isn't in use yet.
    unsafe { (*class).tp_flags.fetch_or(flags, std::sync::atomic::Ordering::Relaxed) };
}

/// Defines the raw function behind the [`Vectorcall`] of a class.
macro_rules! vectorcall {
    ($name:ident, $class:ty, $body:path) => {
        unsafe extern "C" fn $name(
            slf: *mut pyo3::ffi::PyObject,
            values: *const *mut pyo3::ffi::PyObject,
            count_and_flag: usize,
            names: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: Python calls this as the vectorcall of an instance of the class.
            unsafe {
                let positional = pyo3::ffi::PyVectorcall_NARGS(count_and_flag);
                $crate::calls::enter::<$class>(slf, values, positional, names, $body)
            }
        }
    };
}
pub(crate) use vectorcall;
