//! Expiry for caches without one that a workload could drive: what their users write themselves.
//!
//! The value carries its deadline. A get compares it with the clock and removes an expired entry, unless the
//! caller is about to replace it. (Another thread may have replaced it by then, and a removal in between
//! would take the live entry away.)

use std::marker::PhantomData;
use std::time::Duration;

use super::clock::{Clock, nanoseconds};
use super::{Absent, Contestant, Expiring, Found, Key, Plan, Value, Weigh};
use crate::measure::Fields;

/// A value and the time from which it counts as expired.
#[derive(Clone, Debug)]
pub struct Timed<V> {
    value: V,
    deadline: u64,
}

impl<V: Weigh> Weigh for Timed<V> {
    fn weigh(&self) -> u32 {
        self.value.weigh()
    }
}

/// The cache `C`, whose values carry their deadlines.
pub struct DeadlineInValue<C, V, const HAND: bool> {
    cache: C,
    clock: Clock,
    time_to_live: u64,
    value: PhantomData<fn() -> V>,
}

impl<K: Key, V: Value, C: Contestant<K, Timed<V>>, const HAND: bool> Contestant<K, V> for DeadlineInValue<C, V, HAND> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        Ok(Self {
            cache: C::build(&Plan { time_to_live: None, ..plan.clone() })?,
            clock: if HAND { Clock::hand() } else { Clock::wall() },
            time_to_live: plan.time_to_live.map_or(u64::MAX, nanoseconds),
            value: PhantomData,
        })
    }

    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        match self.look_up(key) {
            Found::Live(value) => Some(value),
            Found::Dead | Found::Nothing => None,
        }
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.insert_with_ttl(key, value, Duration::from_nanos(self.time_to_live));
    }

    fn remove(&self, key: &K) -> bool {
        self.cache.remove(key)
    }

    fn entries(&self) -> u64 {
        self.cache.entries()
    }

    fn remarks(&self) -> Fields {
        self.cache.remarks()
    }

    fn expiry(&self) -> &'static str {
        if HAND {
            "deadline in the value, checked on get against the workload's clock"
        } else {
            "deadline in the value, checked on get with Instant::now"
        }
    }
}

impl<K: Key, V: Value, C: Contestant<K, Timed<V>>, const HAND: bool> Expiring<K, V> for DeadlineInValue<C, V, HAND> {
    #[inline]
    fn insert_with_ttl(&self, key: K, value: V, ttl: Duration) {
        let deadline = self.clock.now().saturating_add(nanoseconds(ttl));
        self.cache.insert(key, Timed { value, deadline });
    }

    #[inline]
    fn look_up(&self, key: &K) -> Found<V> {
        let found = self.look_up_or_store(key);
        if let Found::Dead = found {
            self.cache.remove(key);
        }
        found
    }

    #[inline]
    fn look_up_or_store(&self, key: &K) -> Found<V> {
        match self.cache.get(key) {
            Some(timed) if self.clock.now() < timed.deadline => Found::Live(timed.value),
            Some(_) => Found::Dead,
            None => Found::Nothing,
        }
    }

    fn set_time(&self, now: Duration) {
        self.clock.set(now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::mutex_lru::MutexLru;
    use super::*;

    #[test]
    fn the_dead_leave_when_met_unless_they_are_about_to_be_replaced() {
        type Cache = DeadlineInValue<MutexLru<u64, Timed<u64>>, u64, true>;
        let cache = Cache::build(&Plan::entries(10)).ok().unwrap();
        cache.insert_with_ttl(1, 10, Duration::from_secs(1));
        cache.set_time(Duration::from_secs(1));
        assert_eq!((cache.look_up_or_store(&1), cache.entries()), (Found::Dead, 1));
        cache.insert_with_ttl(1, 11, Duration::from_secs(1));
        assert_eq!((cache.look_up_or_store(&1), cache.entries()), (Found::Live(11), 1));
        cache.set_time(Duration::from_secs(2));
        assert_eq!((cache.look_up(&1), cache.entries()), (Found::Dead, 0));
    }
}
