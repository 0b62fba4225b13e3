//! Methods that Python calls without a detour: the raw form of the C interface.
//!
//! PyO3's methods sort arguments by name in general code and count how deep in Rust a thread is; that costs as much as
//! a look-up. The few methods that are called all the time are therefore written as functions over an array of
//! arguments (`METH_FASTCALL | METH_KEYWORDS`) and put on the type as method descriptors, which CPython 3.11 and later
//! call directly. This room turns the raw call into a safe one: [`Arguments`] in, a result or an exception out. It
//! knows no cache.

use std::any::Any;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3::{PyClass, ffi};
use smallvec::SmallVec;

use crate::object::Object;

/// Arguments by name.
pub(crate) type Named<'py> = SmallVec<[(Bound<'py, PyString>, Bound<'py, PyAny>); 4]>;

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
        if self.names.is_null() && (required..=N).contains(&self.positional) {
            // Of a length known to the compiler, so it is no loop.
            return Ok(std::array::from_fn(|index| self.values.get(index).map(|&value| self.borrow(value))));
        }
        let mut parsed = [None; N];
        self.parse_names(function, names, required, &mut parsed)?;
        Ok(parsed)
    }

    /// The argument of a call with one, by position.
    #[inline]
    pub(crate) fn alone(&self) -> Option<&'a Bound<'py, PyAny>> {
        match self.by_position() {
            [argument] if self.names.is_null() => Some(argument),
            _ => None,
        }
    }

    /// The first argument, of functions that have one.
    #[inline]
    pub(crate) fn first(&self) -> &'a Bound<'py, PyAny> {
        &self.by_position()[0]
    }

    /// The arguments by position.
    #[inline]
    pub(crate) fn by_position(&self) -> &'a [Bound<'py, PyAny>] {
        let values = &self.values[..self.positional];
        // SAFETY: `Bound` is a transparent pointer to an object that is alive, and a shared reference to one gives
        // nothing up.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
    }

    /// The arguments by name.
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
/// Called by Python, attached, as a method of an instance of `C` with the arguments of a `METH_FASTCALL |
/// METH_KEYWORDS` call.
#[inline(always)]
pub(crate) unsafe fn enter<C: PyClass>(
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl FnOnce(Borrowed<'_, '_, C>, Arguments<'_, '_>) -> PyResult<Object>,
) -> *mut ffi::PyObject {
    // SAFETY: Python holds the thread attached, `slf` is an instance of the class on which the descriptor is (the
    // descriptor checks), `values` has that many arguments by position and one more for each name, all alive until this
    // returns.
    let (slf, arguments) = unsafe {
        let py = Python::assume_attached();
        let positional = positional.cast_unsigned();
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names).cast_unsigned() };
        let count = positional + named;
        let values = if count == 0 { &[] } else { std::slice::from_raw_parts(values, count) };
        (Borrowed::from_ptr(py, slf).cast_unchecked::<C>(), Arguments { py, values, positional, names })
    };
    // Shards stay valid when something panics; see `sark_shard`.
    match catch_unwind(AssertUnwindSafe(|| body(slf, arguments))) {
        Ok(Ok(object)) => object.into_ptr(),
        Ok(Err(error)) => raise(error),
        Err(panic) => raise(report(panic)),
    }
}

/// Hands an exception to Python. Attached once more, because raw calls don't tell PyO3 that this thread is attached, and
/// it would put off the release of what the error refers to. While the interpreter shuts down that is refused, and put off.
#[cold]
fn raise(error: PyErr) -> *mut ffi::PyObject {
    let mut error = Some(error);
    let restored = Python::try_attach(|py| error.take().map(|error| error.restore(py)));
    if restored.is_none()
        && let Some(error) = error
    {
        // SAFETY: this is called on the way out of a call from Python.
        error.restore(unsafe { Python::assume_attached() });
    }
    std::ptr::null_mut()
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
    // SAFETY: the class is a type, the definition lives for ever and says truly how the function is called; the
    // descriptor is a new reference or null with an exception set.
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

/// Defines the raw functions behind `obj[key]`, `obj[key] = value` with `del obj[key]`, and `key in obj`. Bodies get
/// the key, or key and value, as arguments; what they return is dropped, but for the first, and for the truth of the
/// last.
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
                // SAFETY: Python calls this as `__setitem__`, or without a value as `__delitem__`, of the class whose
                // slot it is in.
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

/// What [`mapping`] defines.
pub(crate) struct MappingSlots {
    pub(crate) get: ffi::binaryfunc,
    pub(crate) assign: ffi::objobjargproc,
    pub(crate) contains: ffi::objobjproc,
}

/// 1 for True, 0 for anything else, -1 for an exception.
///
/// # Safety
/// `result` is an owned reference, given up here, or null with an exception set.
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

/// Puts raw functions in the place of those that PyO3 made, before anybody has used or inherited them.
pub(crate) fn replace_mapping_slots(class: &Bound<'_, PyType>, slots: &MappingSlots) {
    let class = class.as_type_ptr();
    // SAFETY: the class was made by this module, has no subclasses yet, and has both tables, since it defines these
    // methods; the functions are for its instances, which all that is in these slots is only ever called with.
    unsafe {
        (*(*class).tp_as_mapping).mp_subscript = Some(slots.get);
        (*(*class).tp_as_mapping).mp_ass_subscript = Some(slots.assign);
        (*(*class).tp_as_sequence).sq_contains = Some(slots.contains);
        ffi::PyType_Modified(class);
    }
}

/// How Python calls an instance; a field of its class, set for as long as it lives.
#[repr(transparent)]
pub(crate) struct Vectorcall(ffi::vectorcallfunc);

impl Vectorcall {
    pub(crate) const fn new(function: ffi::vectorcallfunc) -> Self {
        Self(function)
    }
}

/// Makes the instances of a class callable through the field that `field` names, and lets `obj.f(x)` call `f(obj, x)`
/// where `f` is one. Before there is any instance but `sample`.
pub(crate) fn make_callable<C>(sample: &Bound<'_, C>, field: impl FnOnce(&C) -> &Vectorcall) -> PyResult<()>
where
    C: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync,
{
    // Where PyO3 puts the field is its own business, so it is measured.
    let offset = std::ptr::from_ref(field(sample.get())).addr() - sample.as_ptr().addr();
    let offset = ffi::Py_ssize_t::try_from(offset)?;
    let class = sample.as_any().get_type().as_type_ptr();
    // SAFETY: the class was made by this module and has no subclasses and no instances but the sample, so nobody has
    // looked at these slots yet; each instance has a function pointer at the offset, which is never changed.
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
    // SAFETY: the caller has a class that nobody uses yet.
    unsafe { (*class).tp_flags |= flags }
}

#[cfg(Py_GIL_DISABLED)]
unsafe fn add_flags(class: *mut ffi::PyTypeObject, flags: std::ffi::c_ulong) {
    // SAFETY: the caller has a class that nobody uses yet.
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
