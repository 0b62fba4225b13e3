//! Expiry for caches that have none a workload could drive: what their users write themselves.
//!
//! The value carries its deadline; whoever gets it compares that with the clock, and removes what is dead.

use std::marker::PhantomData;
use std::time::Duration;

use super::clock::{Clock, nanoseconds};
use super::{Absent, Contestant, Expiring, Found, Key, Plan, Value, Weigh};
use crate::measure::Fields;

/// A value and the moment from which it is dead.
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

/// The cache `C`, holding values that carry their deadline.
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
        match self.cache.get(key) {
            Some(timed) if self.clock.now() < timed.deadline => Found::Live(timed.value),
            Some(_) => {
                self.cache.remove(key);
                Found::Dead
            }
            None => Found::Nothing,
        }
    }

    fn set_time(&self, now: Duration) {
        self.clock.set(now);
    }
}
