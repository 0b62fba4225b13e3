//! Long random histories, compared with a reference that is too simple to be wrong: a list in the order of
//! use.

mod common;

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sark_cache::{Cache, Clock, Dispatch};

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Peek(u8),
    GetMany(Vec<u8>),
    Insert(u8, u16),
    InsertWithTtl(u8, u16, u16),
    PostInsert(u8, u16),
    InsertMany(Vec<(u8, u16)>),
    UpdateOrInsert(u8, u16),
    UpdateOrInsertWithTtl(u8, u16, u16),
    Remove(u8),
    InvalidateAll,
    Iterate,
    /// Keeps the values that have no bit in common with this.
    Retain(u16),
    ExpiresIn(u8),
    SetCapacity(u8),
    RunPendingTasks,
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..12_u8;
    let step = prop_oneof![
        6 => key.clone().prop_map(Step::Get),
        1 => key.clone().prop_map(Step::Peek),
        1 => vec(key.clone(), 0..24).prop_map(Step::GetMany),
        6 => (key.clone(), any::<u16>()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (key.clone(), any::<u16>(), 0..200_u16).prop_map(|(key, value, ttl)| Step::InsertWithTtl(key, value, ttl)),
        1 => (key.clone(), any::<u16>()).prop_map(|(key, value)| Step::PostInsert(key, value)),
        1 => vec((key.clone(), any::<u16>()), 0..6).prop_map(Step::InsertMany),
        2 => (key.clone(), any::<u16>()).prop_map(|(key, value)| Step::UpdateOrInsert(key, value)),
        1 => (key.clone(), any::<u16>(), 0..200_u16)
            .prop_map(|(key, value, ttl)| Step::UpdateOrInsertWithTtl(key, value, ttl)),
        2 => key.clone().prop_map(Step::Remove),
        1 => Just(Step::InvalidateAll),
        2 => Just(Step::Iterate),
        1 => (0..16_u16).prop_map(|bit| Step::Retain(1 << bit)),
        1 => key.prop_map(Step::ExpiresIn),
        1 => (1..10_u8).prop_map(Step::SetCapacity),
        1 => Just(Step::RunPendingTasks),
        3 => (0..60_u16).prop_map(Step::Wait),
    ];
    vec(step, 0..150)
}

struct Entry {
    key: u8,
    value: u16,
    deadline: Option<u64>,
    idle_deadline: Option<u64>,
}

/// All times are in milliseconds. The least recently used entry comes first.
struct Reference {
    entries: Vec<Entry>,
    capacity: usize,
    time_to_live: Option<u64>,
    time_to_idle: Option<u64>,
    now: u64,
}

impl Reference {
    fn is_live(&self, entry: &Entry) -> bool {
        entry.deadline.into_iter().chain(entry.idle_deadline).all(|deadline| self.now < deadline)
    }

    fn find(&self, key: u8) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key == key)
    }

    fn peek(&self, key: u8) -> Option<&Entry> {
        self.find(key).map(|place| &self.entries[place]).filter(|entry| self.is_live(entry))
    }

    fn get(&mut self, key: u8) -> Option<u16> {
        let place = self.find(key)?;
        let mut entry = self.entries.remove(place);
        if !self.is_live(&entry) {
            return None;
        }
        entry.idle_deadline = self.time_to_idle.map(|idle| self.now + idle);
        let value = entry.value;
        self.entries.push(entry);
        Some(value)
    }

    /// Changes a value to `value` and returns the one before, or stores `value`.
    fn update_or_insert(&mut self, key: u8, value: u16, time_to_live: Option<u64>) -> Option<u16> {
        let before = self.get(key);
        match self.entries.last_mut() {
            Some(entry) if before.is_some() => entry.value = value,
            _ => self.insert(key, value, time_to_live),
        }
        before
    }

    fn reclaim(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        self.entries = entries.into_iter().filter(|entry| self.is_live(entry)).collect();
    }

    fn insert(&mut self, key: u8, value: u16, time_to_live: Option<u64>) {
        self.reclaim();
        self.remove(key);
        if time_to_live == Some(0) {
            return;
        }
        while self.entries.len() >= self.capacity {
            self.entries.remove(0);
        }
        self.entries.push(Entry {
            key,
            value,
            deadline: time_to_live.map(|ttl| self.now + ttl),
            idle_deadline: self.time_to_idle.map(|idle| self.now + idle),
        });
    }

    fn remove(&mut self, key: u8) -> Option<u16> {
        let place = self.find(key)?;
        let entry = self.entries.remove(place);
        self.is_live(&entry).then_some(entry.value)
    }
}

fn follows_the_reference(
    dispatch: Dispatch,
    time_to_live: Option<u64>,
    time_to_idle: Option<u64>,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let (clock, hands) = Clock::manual();
    let mut builder = Cache::builder().dispatch(dispatch).pin(false).shards(1).max_capacity(6).clock(clock);
    if let Some(ttl) = time_to_live {
        builder = builder.time_to_live(Duration::from_millis(ttl));
    }
    if let Some(idle) = time_to_idle {
        builder = builder.time_to_idle(Duration::from_millis(idle));
    }
    let cache: Cache<u8, u16> = builder.build().unwrap();
    let mut reference = Reference { entries: Vec::new(), capacity: 6, time_to_live, time_to_idle, now: 0 };
    let default = reference.time_to_live;
    for step in steps {
        match step.clone() {
            Step::Get(key) => prop_assert_eq!(cache.get(&key), reference.get(key)),
            Step::Peek(key) => {
                prop_assert_eq!(cache.peek(&key), reference.peek(key).map(|entry| entry.value));
                prop_assert_eq!(cache.contains_key(&key), reference.peek(key).is_some());
            }
            Step::GetMany(keys) => {
                let expected: Vec<_> = keys.iter().map(|&key| reference.get(key)).collect();
                prop_assert_eq!(cache.get_many(&keys), expected);
            }
            Step::Insert(key, value) => {
                prop_assert!(cache.insert(key, value));
                reference.insert(key, value, default);
            }
            Step::InsertWithTtl(key, value, ttl) => {
                prop_assert_eq!(cache.insert_with_ttl(key, value, Duration::from_millis(ttl.into())), ttl != 0);
                reference.insert(key, value, Some(ttl.into()));
            }
            Step::PostInsert(key, value) => {
                cache.post_insert(key, value);
                reference.insert(key, value, default);
            }
            Step::InsertMany(entries) => {
                prop_assert_eq!(cache.insert_many(entries.iter().copied()), entries.len());
                for (key, value) in entries {
                    reference.insert(key, value, default);
                }
            }
            Step::UpdateOrInsert(key, value) => {
                let before = cache.update_or_insert(key, value, |there| std::mem::replace(there, value));
                prop_assert_eq!(before, reference.update_or_insert(key, value, default));
            }
            Step::UpdateOrInsertWithTtl(key, value, ttl) => {
                let time_to_live = Duration::from_millis(ttl.into());
                let change = |there: &mut u16| std::mem::replace(there, value);
                let before = cache.update_or_insert_with_ttl(key, value, time_to_live, change);
                prop_assert_eq!(before, reference.update_or_insert(key, value, Some(ttl.into())));
            }
            Step::Remove(key) => prop_assert_eq!(cache.remove(&key), reference.remove(key)),
            Step::InvalidateAll => {
                cache.invalidate_all();
                reference.entries.clear();
            }
            Step::Iterate => {
                let mut entries: Vec<_> = cache.iter().collect();
                entries.sort_unstable();
                let live = reference.entries.iter().filter(|entry| reference.is_live(entry));
                let mut expected: Vec<_> = live.map(|entry| (entry.key, entry.value)).collect();
                expected.sort_unstable();
                prop_assert_eq!(entries, expected);
            }
            Step::Retain(unwanted) => {
                reference.reclaim();
                let before = reference.entries.len();
                reference.entries.retain(|entry| entry.value & unwanted == 0);
                let removed = before - reference.entries.len();
                prop_assert_eq!(cache.retain(|_, value| value & unwanted == 0), removed as u64);
                prop_assert_eq!(cache.entry_count(), reference.entries.len() as u64);
            }
            Step::ExpiresIn(key) => {
                let expected = reference.peek(key).map(|entry| {
                    let deadline = entry.deadline.into_iter().chain(entry.idle_deadline).min();
                    deadline.map_or(Duration::MAX, |deadline| Duration::from_millis(deadline - reference.now))
                });
                prop_assert_eq!(cache.expires_in(&key), expected);
            }
            Step::SetCapacity(capacity) => {
                // Expired entries may give up their places first or not. Without them there is one right
                // answer.
                cache.run_pending_tasks();
                reference.reclaim();
                cache.set_capacity(capacity.into());
                reference.capacity = capacity.into();
                let excess = reference.entries.len().saturating_sub(reference.capacity);
                reference.entries.drain(..excess);
            }
            Step::RunPendingTasks => {
                cache.run_pending_tasks();
                reference.reclaim();
                prop_assert_eq!(cache.entry_count(), reference.entries.len() as u64);
            }
            Step::Wait(millis) => {
                hands.advance(Duration::from_millis(millis.into()));
                reference.now += u64::from(millis);
            }
        }
        prop_assert!(cache.entry_count() <= reference.capacity as u64);
    }
    cache.run_pending_tasks();
    reference.reclaim();
    prop_assert_eq!(cache.entry_count(), reference.entries.len() as u64);
    for entry in &reference.entries {
        prop_assert_eq!(cache.peek(&entry.key), Some(entry.value));
    }
    Ok(())
}

under_both_dispatches! {
    fn any_history_gives_the_answers_of_the_reference(dispatch) {
        // A request that crosses threads costs microseconds, so there are fewer cases with it.
        // `PROPTEST_CASES` goes deeper.
        let mut config = ProptestConfig::default();
        if std::env::var_os("PROPTEST_CASES").is_none() {
            config.cases = if dispatch == Dispatch::PerCore { 150 } else { 1000 };
        }
        proptest!(config, |(ttl in prop::option::of(1..150_u64), idle in prop::option::of(1..100_u64), steps in steps())| {
            follows_the_reference(dispatch, ttl, idle, &steps)?;
        });
    }
}
