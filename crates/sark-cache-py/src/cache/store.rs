//! Operations on one key or a few, including all that happens before the shard is taken and after it is
//! released. `whole` operates on all entries, and `arrival` handles how an entry comes in.
//!
//! Each operation follows one pattern. It hashes, weighs and reads the time while nothing is owned. It finds
//! the place and changes it in a single hold (`find`), which makes it atomic. Once nothing is owned any more,
//! it drops what left or reports it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use sark_shard::{Config, Lifetime, Nanos, Room, Shard, Slot};

use super::arrival::Arrival;
use super::clock::CacheClock;
use super::find;
use super::hooks::{Hook, Hooks};
use super::outgoing::Outgoing;
use crate::builtins;
use crate::key::{Key, Sought};
use crate::object::Object;
use crate::ownership::Owned;

pub(super) type ObjectShard = Shard<Key, Object>;

/// The shard of a cache, and its settings.
pub(crate) struct Store {
    pub(super) shard: Owned<ObjectShard>,
    pub(super) clock: CacheClock,
    pub(super) hooks: Hooks,
    /// The calls of factories that are under way. Created by the first `get_or_set` that misses.
    pub(super) flights: Owned<Option<Object>>,
    pub(super) maxsize: AtomicU64,
    pub(super) ttl: Option<Duration>,
    pub(super) tti: Option<Duration>,
    /// The caller's setting, kept for copies. There is one shard whatever it says: under a GIL two threads
    /// are never in the cache at once, and with several shards each would evict its own oldest entry rather
    /// than the oldest of all.
    pub(super) shards: Option<u64>,
    pub(super) name: Option<String>,
}

/// A live entry that was found.
pub(crate) struct Found {
    pub(crate) key: Object,
    pub(crate) value: Object,
    /// The nanoseconds that it has left if it isn't used, or `None` without a deadline.
    pub(crate) remaining: Option<u64>,
}

impl Store {
    pub(super) fn new(
        maxsize: u64,
        ttl: Option<Duration>,
        tti: Option<Duration>,
        hooks: Hooks,
        shards: Option<u64>,
        name: Option<String>,
    ) -> Self {
        let weighted = hooks.has(Hook::GetSizeOf);
        let config = Config {
            budget: room(maxsize, weighted),
            time_to_live: ttl.map(nanos),
            // The caller's timer is exact.
            time_to_idle: tti.map(nanos).map(|nanos| match hooks.has(Hook::Timer) {
                true => nanos,
                false => sark_cache::Timekeeping::new(sark_cache::Clock::system()).idle_time(nanos),
            }),
            capacity_hint: if weighted { 0 } else { usize::try_from(maxsize).unwrap_or(usize::MAX) },
        };
        let clock = CacheClock::new();
        for lifetime in [config.time_to_live, config.time_to_idle].into_iter().flatten() {
            clock.prepare_for(lifetime, &hooks);
        }
        let (shard, flights) = (Owned::new(Shard::new(config)), Owned::new(None));
        Self { shard, clock, hooks, flights, maxsize: AtomicU64::new(maxsize), ttl, tti, shards, name }
    }

    pub(super) fn maxsize(&self) -> u64 {
        self.maxsize.load(Ordering::Relaxed)
    }

    pub(super) fn is_weighted(&self) -> bool {
        self.hooks.has(Hook::GetSizeOf)
    }

    #[inline]
    pub(super) fn now(&self, py: Python<'_>) -> PyResult<Nanos> {
        self.clock.for_reading(py, &self.hooks)
    }

    /// Drops what left, or reports it to the listener.
    #[inline]
    pub(super) fn settle(&self, py: Python<'_>, out: Outgoing) -> PyResult<()> {
        if !out.is_empty() && self.hooks.has(Hook::OnEvict) {
            return self.hooks.tell(py, out.entries());
        }
        out.discard();
        Ok(())
    }

    /// The value of a key; a hit makes it the most recently used.
    #[inline]
    pub(crate) fn get(&self, sought: &Sought<'_, '_>) -> PyResult<Option<Object>> {
        let py = sought.object.py();
        let now = self.now(py)?;
        let mut out = Outgoing::new();
        let value = find::at(&self.shard, sought, |shard, place| match place {
            Some(slot) => shard.hit_slot(slot, now, &mut out, Object::another),
            None => {
                shard.count_miss();
                None
            }
        })?;
        self.settle(py, out)?;
        Ok(value)
    }

    /// Passes the values of many keys to `each`, in order. All are found in one hold, except where Python
    /// must be asked. `each` runs inside the hold.
    pub(crate) fn get_many(
        &self,
        py: Python<'_>,
        sought: &[Sought<'_, '_>],
        mut each: impl FnMut(Option<Object>),
    ) -> PyResult<()> {
        let now = self.now(py)?;
        let mut out = Outgoing::new();
        let mut left = sought;
        while !left.is_empty() {
            left = self.shard.run(py, |shard| {
                for (index, key) in left.iter().enumerate() {
                    match shard.slot(key.hash, key) {
                        Some(slot) => each(shard.hit_slot(slot, now, &mut out, Object::another)),
                        None if key.asks() => return &left[index..],
                        None => {
                            shard.count_miss();
                            each(None);
                        }
                    }
                }
                &[]
            })?;
            if let Some((undecided, rest)) = left.split_first() {
                match self.get(undecided) {
                    Ok(value) => each(value),
                    Err(error) => return self.settle(py, out).and(Err(error)),
                }
                left = rest;
            }
        }
        self.settle(py, out)
    }

    /// The entry of a key. Leaves the order and the counts as they are.
    pub(crate) fn peek(&self, sought: &Sought<'_, '_>) -> PyResult<Option<Found>> {
        let now = self.now(sought.object.py())?;
        find::at(&self.shard, sought, |shard, place| found(shard, place?, now))
    }

    /// Whether a key is there and alive. Leaves the order and the counts as they are.
    #[inline]
    pub(crate) fn contains(&self, sought: &Sought<'_, '_>) -> PyResult<bool> {
        let now = self.now(sought.object.py())?;
        find::at(&self.shard, sought, |shard, place| place.is_some_and(|slot| shard.entry_at(slot, now).is_some()))
    }

    /// Stores a value. A value larger than the whole cache is an error, and the older value is forgotten.
    #[inline]
    pub(crate) fn set(
        &self,
        sought: &Sought<'_, '_>,
        value: Borrowed<'_, '_, PyAny>,
        ttl: Option<Duration>,
    ) -> PyResult<()> {
        self.try_set(sought, value, ttl)?.map_or(Ok(()), |weight| Err(self.too_large(weight)))
    }

    /// Stores a value. Returns its size if it is larger than the whole cache.
    #[inline]
    pub(super) fn try_set(
        &self,
        sought: &Sought<'_, '_>,
        value: Borrowed<'_, '_, PyAny>,
        ttl: Option<Duration>,
    ) -> PyResult<Option<u32>> {
        let py = sought.object.py();
        let arrival = self.arrival(sought, value, ttl)?;
        let mut out = Outgoing::new();
        let refused = find::at(&self.shard, sought, |shard, place| arrival.store(shard, place, &mut out))?;
        self.settle(py, out)?;
        Ok(refused)
    }

    /// Returns the value of a key, or stores and returns `default` if the key isn't there. Atomic: no other
    /// thread can store in between.
    pub(super) fn setdefault(
        &self,
        sought: &Sought<'_, '_>,
        default: Borrowed<'_, '_, PyAny>,
        ttl: Option<Duration>,
    ) -> PyResult<Object> {
        let py = sought.object.py();
        let arrival = self.arrival(sought, default, ttl)?;
        let reading = self.now(py)?;
        let mut out = Outgoing::new();
        let (value, refused) = find::at(&self.shard, sought, |shard, place| {
            if let Some(value) = place.and_then(|slot| shard.hit_slot(slot, reading, &mut out, Object::another)) {
                return (value, None);
            }
            if place.is_none() {
                shard.count_miss();
            }
            // The look-up already handed back an expired entry.
            (Object::new(default), arrival.store(shard, None, &mut out))
        })?;
        self.settle(py, out)?;
        refused.map_or(Ok(value), |weight| Err(self.too_large(weight)))
    }

    /// Adds `delta` to the number stored under a key, or stores `default + delta`. Atomic. The deadline and
    /// the size of an existing entry stay as they are.
    pub(super) fn incr(
        &self,
        sought: &Sought<'_, '_>,
        delta: Borrowed<'_, '_, PyAny>,
        default: Borrowed<'_, '_, PyAny>,
        ttl: Option<Duration>,
    ) -> PyResult<Object> {
        let py = sought.object.py();
        let Some(first) = builtins::add(default, delta) else { return Err(not_numbers()) };
        let arrival = self.arrival(sought, first.bind(py).as_borrowed(), ttl)?;
        let reading = self.now(py)?;
        let mut out = Outgoing::new();
        // The old value is carried out of the hold, since nothing may be dropped inside.
        let (sum, refused, old) = find::at(&self.shard, sought, |shard, place| {
            let hit = place.and_then(|slot| {
                shard.update_slot(slot, reading, &mut out, |value| {
                    let sum = builtins::add(value.bind(py).as_borrowed(), delta)?;
                    Some((sum.another(), std::mem::replace(value, sum)))
                })
            });
            match hit {
                Some(Some((sum, old))) => (Some(sum), None, Some(old)),
                Some(None) => (None, None, None),
                None => (Some(first.another()), arrival.store(shard, None, &mut out), None),
            }
        })?;
        drop(old);
        self.settle(py, out)?;
        if let Some(weight) = refused {
            return Err(self.too_large(weight));
        }
        sum.ok_or_else(not_numbers)
    }

    /// Removes a key and returns its value.
    pub(crate) fn pop(&self, sought: &Sought<'_, '_>) -> PyResult<Option<Object>> {
        let py = sought.object.py();
        let now = self.now(py)?;
        let mut out = Outgoing::new();
        let entry = find::at(&self.shard, sought, |shard, place| shard.remove_slot(place?, now, &mut out))?;
        self.settle(py, out)?;
        self.tell_explicit(py, entry).map(|entry| entry.map(|(_key, value)| value))
    }

    /// Removes the least recently used entry.
    pub(super) fn popitem(&self, py: Python<'_>) -> PyResult<Option<(Object, Object)>> {
        let now = self.now(py)?;
        let mut out = Outgoing::new();
        let entry = self.shard.run(py, |shard| shard.remove_lru(now, &mut out))?;
        self.settle(py, out)?;
        self.tell_explicit(py, entry)
    }

    /// Reports an entry that its remover also gets to the listener.
    fn tell_explicit(&self, py: Python<'_>, entry: Option<(Key, Object)>) -> PyResult<Option<(Object, Object)>> {
        let Some((key, value)) = entry else { return Ok(None) };
        let pair = (key.object.another(), value.another());
        if self.hooks.has(Hook::OnEvict) {
            let removed = sark_shard::Removed { key, value, weight: 1, cause: sark_shard::RemovalCause::Explicit };
            self.hooks.tell(py, std::iter::once(removed))?;
        }
        Ok(Some(pair))
    }

    /// Gives a key a new lifetime from now on. Returns whether it was there.
    pub(super) fn touch(&self, sought: &Sought<'_, '_>, ttl: Option<Duration>) -> PyResult<bool> {
        let py = sought.object.py();
        let lifetime = self.lifetime(ttl);
        let (reading, now) = (self.now(py)?, self.clock.for_storing(py, &self.hooks)?);
        let mut out = Outgoing::new();
        let there = find::at(&self.shard, sought, |shard, place| {
            let Some(slot) = place else { return false };
            // An entry that has expired by the reading clock is expired, even if the storing clock is a step
            // behind.
            let now = if shard.entry_at(slot, reading).is_some() { now } else { reading };
            shard.set_lifetime_slot(slot, lifetime, now, &mut out)
        })?;
        self.settle(py, out)?;
        Ok(there)
    }

    /// Weighs an entry, and makes sure that the clock runs if it has a deadline.
    #[inline]
    fn arrival<'a, 'py>(
        &self,
        sought: &'a Sought<'a, 'py>,
        value: Borrowed<'a, 'py, PyAny>,
        ttl: Option<Duration>,
    ) -> PyResult<Arrival<'a, 'py>> {
        let weight = if self.is_weighted() { self.hooks.weigh(value)? } else { 1 };
        let lifetime = self.lifetime(ttl);
        let now = self.clock.for_storing(value.py(), &self.hooks)?;
        let plain = !self.is_weighted() && !self.hooks.has(Hook::OnEvict);
        Ok(Arrival { sought, value, weight, lifetime, now, plain })
    }

    #[inline]
    fn lifetime(&self, ttl: Option<Duration>) -> Lifetime {
        match ttl {
            None => Lifetime::Default,
            Some(ttl) => {
                let nanos = nanos(ttl);
                self.clock.prepare_for(nanos, &self.hooks);
                Lifetime::For(nanos)
            }
        }
    }

    #[cold]
    fn too_large(&self, weight: u32) -> PyErr {
        PyValueError::new_err(format!("the value's size is {weight}, at most {} fits into the cache", self.maxsize()))
    }
}

fn found(shard: &ObjectShard, slot: Slot, now: Nanos) -> Option<Found> {
    let entry = shard.entry_at(slot, now)?;
    Some(Found {
        key: entry.key.object.another(),
        value: entry.value.another(),
        remaining: entry.deadline.map(|deadline| deadline.0.saturating_sub(now.0)),
    })
}

pub(super) fn room(maxsize: u64, weighted: bool) -> Room {
    if weighted { Room::for_weight(maxsize) } else { Room::for_entries(maxsize) }
}

/// Nanoseconds, at most `u64::MAX`, which means for ever.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn not_numbers() -> PyErr {
    PyTypeError::new_err("incr adds numbers: the value, delta and default must be of type int or float")
}
