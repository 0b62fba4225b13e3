//! Operations on all entries of a cache: counting, measuring, reclaiming, resizing, listing, and showing them
//! to the garbage collector.
//!
//! Long operations release the shard after each slice, so that what left is dropped while nothing is owned.
//! Clearing takes everything out at once.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use sark_shard::{Counters, Room, Shard};

use super::hooks::Hook;
use super::outgoing::Outgoing;
use super::store::{Found, ObjectShard, Store, room};
use crate::object::Object;
use crate::user_code;

/// How many entries one slice handles.
const SLICE: usize = 256;

impl Store {
    /// Reclaims everything due, and returns how many entries that was.
    pub(super) fn expire(&self, py: Python<'_>) -> PyResult<usize> {
        let now = self.now(py)?;
        let mut expired = 0;
        loop {
            let mut out = Outgoing::new();
            let progress = self.shard.run(py, |shard| shard.advance(now, SLICE, &mut out))?;
            self.settle(py, out)?;
            expired += progress.expired;
            if !progress.more {
                return Ok(expired);
            }
        }
    }

    /// The room that live entries take up, after reclaiming everything due.
    pub(super) fn used(&self, py: Python<'_>) -> PyResult<Room> {
        self.expire(py)?;
        Ok(self.shard.run(py, |shard| shard.used())?)
    }

    /// The sum of sizes, which is the number of entries without `getsizeof`.
    pub(super) fn currsize(&self, py: Python<'_>) -> PyResult<u64> {
        let used = self.used(py)?;
        Ok(if self.is_weighted() { used.weight } else { used.entries })
    }

    /// Changes the bound, and evicts until the cache is within it.
    pub(super) fn resize(&self, py: Python<'_>, maxsize: u64) -> PyResult<()> {
        self.maxsize.store(maxsize, Ordering::Relaxed);
        self.shard.run(py, |shard| shard.set_budget(room(maxsize, self.is_weighted())))?;
        loop {
            let mut out = Outgoing::new();
            let within = self.shard.run(py, |shard| shard.enforce_budget(SLICE, &mut out))?;
            self.settle(py, out)?;
            if within {
                return Ok(());
            }
        }
    }

    /// Removes everything at one moment.
    pub(crate) fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let contents = self.shard.run(py, Shard::clear)?;
        if self.hooks.has(Hook::OnEvict) { self.hooks.tell(py, contents) } else { Ok(()) }
    }

    /// All live entries at one moment, least recently used first.
    pub(super) fn entries(&self, py: Python<'_>) -> PyResult<Vec<Found>> {
        let now = self.now(py)?;
        let entries = self.shard.run(py, |shard| {
            let live = shard.iter().filter(|entry| !entry.is_dead(now));
            live.map(|entry| Found {
                key: entry.key.object.another(),
                value: entry.value.another(),
                remaining: entry.deadline.map(|deadline| deadline.0.saturating_sub(now.0)),
            })
            .collect()
        })?;
        Ok(entries)
    }

    /// The number of bytes allocated for the entries.
    pub(super) fn memory(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.shard.run(py, |shard| shard.memory().total())?)
    }

    pub(super) fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        Ok(self.shard.run(py, |shard| shard.counters())?)
    }

    /// The object that lets only one caller at a time compute a key.
    pub(super) fn flights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(flights) = self.flights.run(py, |flights| flights.as_ref().map(Object::another))? {
            return Ok(flights.into_bound(py));
        }
        let new = Object::from(user_code::call(&super::python(py, "_singleflight", "Flights")?, [])?);
        // Another thread may have stored one while this one was being created.
        let mut new = Some(new);
        let flights = self.flights.run(py, |flights| {
            if flights.is_none() {
                *flights = new.take();
            }
            flights.as_ref().map(Object::another)
        })?;
        match flights {
            Some(flights) => Ok(flights.into_bound(py)),
            None => unreachable!("there was one, or this was put there"),
        }
    }

    /// Shows everything to the garbage collector, always.
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.hooks.visit(visit)?;
        let visit_flights = |flights: &mut Option<Object>| flights.iter().try_for_each(|flights| flights.visit(visit));
        // SAFETY: called only by the traversal.
        unsafe { self.flights.inspect(visit_flights)? };
        let visit_all = |shard: &mut ObjectShard| {
            shard.entries().try_for_each(|entry| {
                entry.key.object.visit(visit)?;
                entry.value.visit(visit)
            })
        };
        // SAFETY: called only by the traversal.
        unsafe { self.shard.inspect(visit_all) }
    }

    /// Releases everything to the garbage collector. Contents and functions are dropped while nothing is owned.
    pub(super) fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        let contents = self.shard.run(py, Shard::clear)?;
        let functions = self.hooks.take(py)?;
        let flights = self.flights.run(py, Option::take)?;
        drop((contents, functions, flights));
        Ok(())
    }
}
