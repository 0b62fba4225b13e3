//! What can be known about objects of builtin types without running Python code.
//!
//! These functions are called while a shard is owned, so they run no method that a user can define, allocate
//! no collectable object, and drop no reference held elsewhere. They look only at objects whose type *is*
//! `str`, `bytes`, `int`, `float`, `bool`, `tuple` or `None`, not at instances of subclasses, which may
//! define their own `__eq__`. All of these types are immutable, so they can be read while other threads use
//! them.

use std::sync::atomic::{AtomicIsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use sark_shard::Match;

use crate::object::Object;

/// Tuples nested deeper than this are left to Python, which knows how deep its stack is.
const MAX_DEPTH: u32 = 20;

/// The types that this module can compare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Str,
    Bytes,
    /// `int` and `bool`.
    Integer,
    Float,
    Tuple,
    None,
    Other,
}

/// The hash of a str that was hashed before, read without a call.
#[inline]
pub(crate) fn cached_hash(object: Borrowed<'_, '_, PyAny>) -> Option<isize> {
    let pointer = object.as_ptr();
    // SAFETY: the object is alive, so its type can be read. If that is str, the object has the layout of one,
    // and its hash is only ever written as a whole word (a relaxed load of it is a plain one).
    let hash = unsafe {
        if ffi::PyUnicode_CheckExact(pointer) == 0 {
            return None;
        }
        let hash = &raw mut (*pointer.cast::<ffi::PyASCIIObject>()).hash;
        AtomicIsize::from_ptr(hash).load(Ordering::Relaxed)
    };
    // Python stores -1 for "not hashed yet".
    (hash != -1).then_some(hash)
}

/// Whether an object is of a type that this module can compare, other than tuple.
#[inline]
pub(crate) fn is_simple(object: Borrowed<'_, '_, PyAny>) -> bool {
    // SAFETY: the object is alive.
    let kind = unsafe { kind(object.as_ptr()) };
    kind != Kind::Tuple && kind != Kind::Other
}

/// Whether two objects are equal, as `==` would say, or [`Match::Ask`] if only Python can tell.
#[inline]
pub(crate) fn compare(sought: Borrowed<'_, '_, PyAny>, stored: &Object) -> Match {
    // SAFETY: the caller and the shard keep both objects alive, and the caller is attached.
    unsafe { compare_pointers(sought.as_ptr(), stored.as_ptr()) }
}

/// # Safety
/// Both objects stay alive while this runs, on an attached thread. The same applies to all functions below.
#[inline]
unsafe fn compare_pointers(a: *mut ffi::PyObject, b: *mut ffi::PyObject) -> Match {
    // SAFETY: both are alive. If they are str, they have that layout.
    unsafe {
        if ffi::PyUnicode_CheckExact(a) != 0 && ffi::PyUnicode_CheckExact(b) != 0 {
            return said(equal_texts(a, b));
        }
        compare_others(a, b, 0)
    }
}

#[inline]
fn said(equal: bool) -> Match {
    if equal { Match::Equal } else { Match::Different }
}

#[inline]
unsafe fn equal_texts(a: *mut ffi::PyObject, b: *mut ffi::PyObject) -> bool {
    // SAFETY: both are str. A str stores its characters in an array of `length` times `kind` bytes, using the
    // smallest kind that fits, so equal strings have equal kinds.
    unsafe {
        let (length, kind) = (ffi::PyUnicode_GET_LENGTH(a), ffi::PyUnicode_KIND(a));
        if length != ffi::PyUnicode_GET_LENGTH(b) || kind != ffi::PyUnicode_KIND(b) {
            return false;
        }
        let bytes = length.cast_unsigned() * kind as usize;
        equal_bytes(ffi::PyUnicode_DATA(a).cast(), ffi::PyUnicode_DATA(b).cast(), bytes)
    }
}

#[inline]
unsafe fn equal_bytes(a: *const u8, b: *const u8, length: usize) -> bool {
    // SAFETY: the caller read the pointers and the length from the same immutable objects.
    unsafe { std::slice::from_raw_parts(a, length) == std::slice::from_raw_parts(b, length) }
}

#[inline]
unsafe fn kind(object: *mut ffi::PyObject) -> Kind {
    // SAFETY: the object is alive.
    unsafe {
        let is = |kind: *mut ffi::PyTypeObject| ffi::Py_IS_TYPE(object, kind) != 0;
        if ffi::PyUnicode_CheckExact(object) != 0 {
            Kind::Str
        } else if ffi::PyLong_CheckExact(object) != 0 || is(&raw mut ffi::PyBool_Type) {
            Kind::Integer
        } else if ffi::PyTuple_CheckExact(object) != 0 {
            Kind::Tuple
        } else if ffi::PyBytes_CheckExact(object) != 0 {
            Kind::Bytes
        } else if ffi::PyFloat_CheckExact(object) != 0 {
            Kind::Float
        } else if object == ffi::Py_None() {
            Kind::None
        } else {
            Kind::Other
        }
    }
}

unsafe fn compare_others(a: *mut ffi::PyObject, b: *mut ffi::PyObject, depth: u32) -> Match {
    if a == b {
        return Match::Equal;
    }
    // SAFETY: both are alive, and are read as their types prescribe.
    unsafe {
        match (kind(a), kind(b)) {
            (Kind::Other, _) | (_, Kind::Other) => Match::Ask,
            (Kind::Str, Kind::Str) => said(equal_texts(a, b)),
            (Kind::Bytes, Kind::Bytes) => {
                let length = ffi::Py_SIZE(a);
                let same = length == ffi::Py_SIZE(b);
                let (a, b) = (ffi::PyBytes_AS_STRING(a), ffi::PyBytes_AS_STRING(b));
                said(same && equal_bytes(a.cast(), b.cast(), length.cast_unsigned()))
            }
            (Kind::Tuple, Kind::Tuple) => compare_tuples(a, b, depth),
            // The type's own comparison is plain C, and knows how 1, 1.0 and True relate.
            (Kind::Integer, Kind::Integer) => ask_type(&raw mut ffi::PyLong_Type, a, b),
            (Kind::Float, Kind::Float | Kind::Integer) => ask_type(&raw mut ffi::PyFloat_Type, a, b),
            (Kind::Integer, Kind::Float) => ask_type(&raw mut ffi::PyFloat_Type, b, a),
            _ => Match::Different,
        }
    }
}

unsafe fn compare_tuples(a: *mut ffi::PyObject, b: *mut ffi::PyObject, depth: u32) -> Match {
    // SAFETY: both are tuples, which keep their items alive.
    unsafe {
        let length = ffi::PyTuple_GET_SIZE(a);
        if length != ffi::PyTuple_GET_SIZE(b) {
            return Match::Different;
        }
        if depth == MAX_DEPTH {
            return Match::Ask;
        }
        let mut result = Match::Equal;
        for index in 0..length {
            match compare_others(ffi::PyTuple_GET_ITEM(a, index), ffi::PyTuple_GET_ITEM(b, index), depth + 1) {
                Match::Equal => {}
                Match::Different => return Match::Different,
                Match::Ask => result = Match::Ask,
            }
        }
        result
    }
}

/// Compares two numbers with the `==` of `kind`, which is the type of the first.
unsafe fn ask_type(kind: *mut ffi::PyTypeObject, a: *mut ffi::PyObject, b: *mut ffi::PyObject) -> Match {
    // SAFETY: the types are builtin, live for ever and don't change. Their comparison is plain C on immutable
    // numbers. It allocates nothing but numbers, and returns one of the objects True, False and
    // NotImplemented.
    unsafe {
        let Some(compare) = (*kind).tp_richcompare else { return Match::Ask };
        let answer = compare(a, b, ffi::Py_EQ);
        if answer.is_null() {
            // There was no memory for a number. Python will report that itself.
            ffi::PyErr_Clear();
            return Match::Ask;
        }
        let result = if answer == ffi::Py_True() {
            Match::Equal
        } else if answer == ffi::Py_False() {
            Match::Different
        } else {
            Match::Ask
        };
        ffi::Py_DECREF(answer);
        result
    }
}

/// The sum of two numbers of type int or float. `None` for other types, and for an int beyond 64 bits plus a
/// float.
pub(crate) fn add(a: Borrowed<'_, '_, PyAny>, b: Borrowed<'_, '_, PyAny>) -> Option<Object> {
    let py = a.py();
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: both are alive. Addition of ints is plain C and makes an int. Floats are added by hand, because
    // converting an int that is too large would make an exception, which is collectable. Sums are owned
    // references.
    unsafe {
        let integers = ffi::PyLong_CheckExact(a) != 0 && ffi::PyLong_CheckExact(b) != 0;
        let sum = if integers {
            let add = (*ffi::PyLong_Type.tp_as_number).nb_add?;
            add(a, b)
        } else {
            ffi::PyFloat_FromDouble(as_double(a)? + as_double(b)?)
        };
        if sum.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(Object::from(Bound::from_owned_ptr(py, sum)))
    }
}

unsafe fn as_double(number: *mut ffi::PyObject) -> Option<f64> {
    // SAFETY: the object is alive, and is read as its type prescribes.
    unsafe {
        if ffi::PyFloat_CheckExact(number) != 0 {
            return Some(ffi::PyFloat_AS_DOUBLE(number));
        }
        if ffi::PyLong_CheckExact(number) == 0 {
            return None;
        }
        let mut overflow = 0;
        let value = ffi::PyLong_AsLongLongAndOverflow(number, &raw mut overflow);
        (overflow == 0).then_some(value as f64)
    }
}
