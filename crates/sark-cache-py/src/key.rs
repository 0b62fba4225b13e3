//! Keys: hashed by Python before anything is owned, and compared without Python where possible.
//!
//! A stored key is an object with its hash. A sought key brings its own hash and tells for each stored key
//! that it meets whether it is the same one: by identity, or because both are of the builtin types that
//! `builtins` can compare. If neither decides, it records that, and the code doing the look-up asks Python
//! while nothing is owned (`cache::find`).

use std::cell::Cell;

use equivalent::Equivalent;
use pyo3::prelude::*;
use pyo3::types::PyString;
use sark_shard::Match;

use crate::builtins;
use crate::object::Object;
use crate::user_code;

/// A key as a shard holds it.
pub(crate) struct Key {
    /// The mixed hash.
    hash: u64,
    pub(crate) object: Object,
}

/// A key that is being looked up.
pub(crate) struct Sought<'a, 'py> {
    pub(crate) hash: u64,
    pub(crate) object: Borrowed<'a, 'py, PyAny>,
    /// Whether the look-up met a stored key that can't be compared here.
    asks: Cell<bool>,
}

impl<'a, 'py> Sought<'a, 'py> {
    /// Runs `__hash__`.
    #[inline]
    pub(crate) fn new(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let hash = match builtins::cached_hash(object) {
            Some(hash) => hash,
            None if object.is_exact_instance_of::<PyString>() => hash_of_text(object)?,
            None => hash_by_python(object)?,
        };
        Ok(Self { hash: mix(hash), object, asks: Cell::new(false) })
    }

    /// Whether the look-up has met a key that only Python can compare.
    #[inline]
    pub(crate) fn asks(&self) -> bool {
        self.asks.get()
    }

    /// Whether `stored` is the sought key. Runs no Python code.
    #[inline]
    pub(crate) fn compare(&self, stored: &Key) -> Match {
        if stored.object.as_ptr() == self.object.as_ptr() {
            return Match::Equal;
        }
        if stored.hash != self.hash {
            return Match::Different;
        }
        builtins::compare(self.object, &stored.object)
    }

    /// The key to be stored, which takes a new reference.
    #[inline]
    pub(crate) fn to_key(&self) -> Key {
        Key { hash: self.hash, object: Object::new(self.object) }
    }
}

/// For look-ups that treat "can't tell" as different, and record it.
impl Equivalent<Key> for Sought<'_, '_> {
    #[inline]
    fn equivalent(&self, stored: &Key) -> bool {
        match self.compare(stored) {
            Match::Equal => true,
            Match::Different => false,
            Match::Ask => {
                self.asks.set(true);
                false
            }
        }
    }
}

/// Spreads a hash so that every bit depends on all, as shards expect: Python's hash of a small integer is
/// that integer. The hash is multiplied by a large odd number, and the upper half of the product is folded
/// over the lower.
#[inline]
fn mix(hash: isize) -> u64 {
    const MULTIPLIER: u128 = 0x9E37_79B9_7F4A_7C15;
    let product = u128::from(hash.cast_unsigned() as u64) * MULTIPLIER;
    (product >> 64) as u64 ^ product as u64
}

/// Hashes a str, which runs no Python code.
#[cold]
fn hash_of_text(object: Borrowed<'_, '_, PyAny>) -> PyResult<isize> {
    object.hash()
}

#[cold]
fn hash_by_python(object: Borrowed<'_, '_, PyAny>) -> PyResult<isize> {
    user_code::hash(object)
}
