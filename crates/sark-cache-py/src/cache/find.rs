//! Finds the place of a key in the shard, even where only Python can compare keys.
//!
//! Almost always the shard can tell alone, and the operation runs in the same hold. If it meets a key that it
//! can't compare, the shard is released, Python compares, and the shard is taken again. A positive answer
//! counts only if the entry is still the one that was compared. A negative answer counts only if no entry
//! with such a hash was inserted meanwhile. So `__eq__` may change the cache, let other threads change it, or
//! raise, and there are never two entries with equal keys.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use sark_shard::{Candidate, Finding, Shard, Slot, Stamp, Undecided};
use smallvec::SmallVec;

use crate::key::{Key, Sought};
use crate::object::Object;
use crate::ownership::Owned;
use crate::user_code;

/// A key whose comparison changes the cache each time must not be looked up for ever.
const TRIES: usize = 64;

/// What Python said about the keys that were in the shard at one moment.
enum Verdict {
    Equal(Candidate),
    NoneAsOf(Stamp),
}

/// The outcome of one look at the shard.
enum Look<R> {
    Done(R),
    Ask(Undecided, SmallVec<[Object; 2]>),
}

/// Runs `operation` on the shard with the slot of `sought`, expired or not, or with `None` if the key isn't
/// there.
///
/// `operation` must keep the rule of `ownership`.
#[inline]
pub(super) fn at<R>(
    shard: &Owned<Shard<Key, Object>>,
    sought: &Sought<'_, '_>,
    operation: impl FnOnce(&mut Shard<Key, Object>, Option<Slot>) -> R,
) -> PyResult<R> {
    let mut operation = Some(operation);
    let done = shard.run(sought.object.py(), |shard| match shard.slot(sought.hash, sought) {
        None if sought.asks() => None,
        place => operation.take().map(|operation| operation(shard, place)),
    })?;
    match (done, operation) {
        (Some(result), _) => Ok(result),
        (None, Some(operation)) => after_asking(shard, sought, operation),
        (None, None) => unreachable!("an operation that was taken was run"),
    }
}

#[cold]
#[inline(never)]
fn after_asking<R>(
    shard: &Owned<Shard<Key, Object>>,
    sought: &Sought<'_, '_>,
    operation: impl FnOnce(&mut Shard<Key, Object>, Option<Slot>) -> R,
) -> PyResult<R> {
    let mut operation = Some(operation);
    let mut verdict = None;
    for _ in 0..TRIES {
        let look = shard.run(sought.object.py(), |shard| {
            let place = match shard.find_by(sought.hash, |stored| sought.compare(stored)) {
                Finding::Found(slot) => Ok(Some(slot)),
                Finding::Absent(_) => Ok(None),
                Finding::Undecided(undecided) => place_by(&verdict, shard, undecided),
            };
            match (place, operation.take()) {
                (Ok(place), Some(run)) => Look::Done(run(shard, place)),
                (Err(undecided), kept) => {
                    operation = kept;
                    let keys = undecided.candidates.iter().filter_map(|&candidate| key_of(shard, candidate)).collect();
                    Look::Ask(undecided, keys)
                }
                (Ok(_), None) => unreachable!("the operation runs once, and then this returns"),
            }
        })?;
        match look {
            Look::Done(result) => return Ok(result),
            Look::Ask(undecided, keys) => verdict = Some(ask(sought, &undecided, &keys)?),
        }
    }
    Err(PyRuntimeError::new_err("the cache changed each of 64 times while its keys were compared"))
}

/// The place that an earlier verdict stands for now, or the question again if the verdict no longer applies.
fn place_by(
    verdict: &Option<Verdict>,
    shard: &Shard<Key, Object>,
    undecided: Undecided,
) -> Result<Option<Slot>, Undecided> {
    match verdict {
        Some(Verdict::Equal(candidate)) => shard.slot_of(*candidate).map(Some).ok_or(undecided),
        // No entry with such a hash was inserted since, and none of those that were there then is equal.
        Some(Verdict::NoneAsOf(stamp)) if *stamp == undecided.stamp => Ok(None),
        _ => Err(undecided),
    }
}

/// A reference to the key of a candidate that was seen in this same hold.
fn key_of(shard: &Shard<Key, Object>, candidate: Candidate) -> Option<Object> {
    let key = shard.key_at(shard.slot_of(candidate)?)?;
    Some(key.object.another())
}

/// Lets Python compare while nothing is owned.
fn ask(sought: &Sought<'_, '_>, undecided: &Undecided, keys: &[Object]) -> PyResult<Verdict> {
    for (&candidate, key) in undecided.candidates.iter().zip(keys) {
        // The stored key comes first, as with a dict.
        if user_code::equal(key.bind(sought.object.py()), &sought.object)? {
            return Ok(Verdict::Equal(candidate));
        }
    }
    Ok(Verdict::NoneAsOf(undecided.stamp))
}
