//! Eviction order: the least recently used entries, found ahead of the evictions that need them.
//!
//! A use only writes its number alongside the entry, so the order of entries is written nowhere. Only an
//! eviction needs it, and only its beginning. So the slots are searched for the entries used before a certain
//! time, chosen by a sample: about a quarter of them, or half in a small shard. These are the *candidates*.
//! They leave one after the other, the oldest first; a candidate that was used or removed since it was seen
//! is passed over. Meanwhile the next candidates are searched for, in slices, slot by slot in the order of
//! memory, at a pace that ends the search when its result is needed.
//!
//! The order is exact LRU. All live entries that are not candidates were used later than the candidates had
//! been when they were seen, and a candidate leaves only if it was not used since.
//!
//! When a search is over, its finds are dealt into *stretches*: equal parts of the range of uses that it
//! looked at, as many as there are candidates. Few stretches have more than two or three. Then only the last
//! stretches have to be sorted, a handful of candidates at a time, whenever those sorted before are used up.
//!
//! The cost of a candidate does not depend on the number of entries: it takes the search of about four slots
//! (where most slots are live), the dealing, and a share of the sorting. Where hardly any slot is live,
//! blocks of free slots are skipped at once. A candidate ends with an eviction, or with a use or the removal
//! of its entry. So each of these is O(1) in the long run, in expectation: a sample may be unlucky, and where
//! most uses lie close together in a wide range, sorting takes O(log n).
//!
//! A single eviction may cost more:
//!
//! * a slice of the search;
//! * dealing the candidates, some nanoseconds each, for which four bytes each are allocated temporarily;
//! * sorting an eighth of them, if their uses lie close together;
//! * a whole search, some nanoseconds a slot, at the very first eviction and if hardly any entry is as it was
//!   when it was seen.
//!
//! The shard calls this module. It never removes an entry: it only names the slot that is next.

use alloc::vec;
use alloc::vec::Vec;

use crate::slab::Slab;
use crate::slot::Slot;
use crate::word::Use;

/// One of so many slots becomes a candidate in a search: in a small shard, where a little more memory saves
/// searching, and in a large one.
const SLOTS_PER_CANDIDATE: [usize; 2] = [2, 4];
/// A shard of up to so many slots is small.
const SMALL: usize = if cfg!(test) { 60 } else { 4096 };
/// The most slots in the sample that decides which uses are early enough. A shard samples one slot in
/// [`SLOTS_PER_SAMPLED`] up to that, but at least [`SMALLEST_SAMPLE`].
const SAMPLE: usize = if cfg!(test) { 16 } else { 64 };
const SLOTS_PER_SAMPLED: usize = 16;
const SMALLEST_SAMPLE: usize = if cfg!(test) { 4 } else { 16 };
/// The search goes on each time that so many candidates are used up.
const SLICE: usize = if cfg!(test) { 3 } else { 64 };
/// Candidates are sorted about [`SORTED_AT_ONCE`] at a time. If many more were used close together, at most
/// one in [`SORTED_PART`] of all is sorted at once, or four times [`SORTED_AT_ONCE`] if that is more.
const SORTED_AT_ONCE: usize = if cfg!(test) { 3 } else { 16 };
const SORTED_PART: usize = 8;
/// How many turns ahead of its own a candidate's node is prefetched.
const AHEAD: usize = 4;
/// The widest range of uses for one search: what was seen remembers 32 bits.
const WIDEST: Use = if cfg!(test) { 1000 } else { u32::MAX as Use };

/// An entry as a search saw it: its last use, counted from some base, and its slot. Ordered by use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen(u64);

impl Seen {
    #[inline]
    fn new(since_base: u32, slot: Slot) -> Self {
        Self(u64::from(since_base) << 32 | u64::from(slot.0))
    }

    #[inline]
    fn since_base(self) -> u64 {
        self.0 >> 32
    }

    #[inline]
    fn slot(self) -> Slot {
        Slot(self.0 as u32)
    }
}

/// Divides a range of uses, counted from some base, into stretches.
#[derive(Clone, Copy)]
struct Stretches {
    /// The number of stretches for each use, times 2^32.
    per_use: u64,
}

impl Stretches {
    /// Divides not more than 2^32 uses into at most 2^31 stretches.
    fn of(uses: Use, stretches: usize) -> Self {
        Self { per_use: ((stretches as u64) << 32) / uses.max(1) }
    }

    /// The number of the stretch in which an entry was used, always below the number of stretches.
    #[inline]
    fn number(self, seen: Seen) -> usize {
        ((seen.since_base() * self.per_use) >> 32) as usize
    }
}

/// The candidates, and the search for the next ones.
pub(crate) struct Eldest {
    /// All live entries last used before `from` are in here with that use; others in here are out of date.
    /// They are ordered by stretches, the oldest stretch last, and in no order within a stretch. But the
    /// oldest entries of all, at the end, are sorted, the oldest last.
    leaving: Vec<Seen>,
    /// The number of candidates at the end of `leaving` that are sorted.
    sorted: usize,
    stretches: Stretches,
    /// The base from which the uses in `leaving` count.
    base: Use,
    /// The search is for all live entries last used from `from` on, but before `until`. Those in slots below
    /// `searched` are in `coming` with that use; others in there are out of date.
    from: Use,
    /// Not later than any use since the search began, and not more than `WIDEST` after `from`.
    until: Use,
    searched: usize,
    /// Its uses count from `from`.
    coming: Vec<Seen>,
    /// `pace` is how many slots are to be searched for each candidate that is used up, and `through` is how
    /// many were since the last slice of the search.
    pace: usize,
    through: usize,
}

impl Eldest {
    pub(crate) const fn new() -> Self {
        Self {
            leaving: Vec::new(),
            sorted: 0,
            stretches: Stretches { per_use: 0 },
            base: 0,
            from: 0,
            until: 0,
            searched: 0,
            coming: Vec::new(),
            pace: 0,
            through: 0,
        }
    }

    /// Returns the least recently used entry, for the caller to remove: it is no longer a candidate. `uses`
    /// is the number of the last use.
    #[inline]
    pub(crate) fn take<K, V>(&mut self, slab: &Slab<K, V>, uses: Use) -> Option<Slot> {
        loop {
            while let Some(candidate) = self.pop(slab) {
                if slab.last_use(candidate.slot()) == Some(self.base + candidate.since_base()) {
                    return Some(candidate.slot());
                }
            }
            if slab.is_empty() {
                return None;
            }
            self.turn(slab, uses);
        }
    }

    /// Returns the entry that probably leaves next, if it is already known.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Slot> {
        self.leaving.last().map(|candidate| candidate.slot())
    }

    /// Takes out the next candidate.
    #[inline]
    fn pop<K, V>(&mut self, slab: &Slab<K, V>) -> Option<Seen> {
        if self.sorted == 0 {
            self.sort_some();
        }
        let candidate = self.leaving.pop()?;
        self.sorted -= 1;
        if let Some(soon) = self.leaving.get(self.leaving.len().wrapping_sub(AHEAD)) {
            slab.prefetch(soon.slot());
        }
        self.through += 1;
        if self.through == SLICE {
            self.search(slab, self.pace.saturating_mul(SLICE));
        }
        Some(candidate)
    }

    /// Sorts the oldest candidates at the end: those of the last stretches, as whole stretches if they are
    /// not too many.
    #[inline(never)]
    fn sort_some(&mut self) {
        let Self { leaving, stretches, .. } = self;
        let all = leaving.len();
        let mut at = all.saturating_sub(SORTED_AT_ONCE);
        if let Some(&first) = leaving.get(at) {
            let same = |seen: &&Seen| stretches.number(**seen) == stretches.number(first);
            at -= leaving[..at].iter().rev().take_while(same).count();
        }
        let most = (all / SORTED_PART).max(SORTED_AT_ONCE * 4);
        if all - at > most {
            leaving[at..].select_nth_unstable_by(all - at - most, |a, b| b.cmp(a));
            at = all - most;
        }
        leaving[at..].sort_unstable_by(|a, b| b.cmp(a));
        self.sorted = all - at;
    }

    /// Searches a number of further slots.
    #[inline(never)]
    fn search<K, V>(&mut self, slab: &Slab<K, V>, slots: usize) {
        self.through = 0;
        if self.from == self.until {
            // There is nothing to be found.
            return;
        }
        let end = slab.slots().min(self.searched.saturating_add(slots));
        let (from, until) = (self.from, self.until);
        let seen = |number: Use, slot| Seen::new(number.wrapping_sub(from) as u32, slot);
        slab.gather_used(from, until, self.searched..end, seen, |found| {
            if self.until == until && found.len() <= self.coming.capacity() - self.coming.len() {
                self.coming.extend_from_slice(found);
            } else {
                found.iter().for_each(|&seen| self.add(seen));
            }
        });
        self.searched = end.max(self.searched);
    }

    /// Adds an entry that was found, if it is still among what is searched for.
    fn add(&mut self, seen: Seen) {
        if self.coming.len() == self.coming.capacity() {
            self.narrow();
        }
        if seen.since_base() < self.until - self.from {
            self.coming.push(seen);
        }
    }

    /// Goes on with the older half of what was found: the sample misled, and there is no room for more.
    #[cold]
    #[inline(never)]
    fn narrow(&mut self) {
        let half = self.coming.len() / 2;
        let (_, first_of_the_rest, _) = self.coming.select_nth_unstable(half);
        self.until = self.from + first_of_the_rest.since_base();
        self.coming.truncate(half);
    }

    /// Completes the search when no candidate is left, makes its finds the candidates, and begins another
    /// search.
    #[cold]
    #[inline(never)]
    fn turn<K, V>(&mut self, slab: &Slab<K, V>, uses: Use) {
        self.search(slab, usize::MAX);
        if self.coming.is_sorted() {
            // Where nothing is hit, entries leave as they came, and lie in memory in that order.
            core::mem::swap(&mut self.leaving, &mut self.coming);
            self.leaving.reverse();
            self.sorted = self.leaving.len();
        } else {
            self.deal();
        }
        self.coming.clear();
        (self.base, self.from) = (self.from, self.until);
        self.begin(slab, uses);
        self.pace = slab.slots().div_ceil(self.leaving.len().max(1));
    }

    /// Makes what was found the candidates, dealt into stretches.
    fn deal(&mut self) {
        // One stretch for each candidate: then few have more than two or three.
        let count = self.coming.len();
        self.stretches = Stretches::of(self.until - self.from, count);
        // Stretches count from the last one on, since the oldest come last. First `places` has the number of
        // candidates in each stretch, then the place where its next one goes.
        let place = |seen| count - 1 - self.stretches.number(seen);
        let mut places = vec![0_u32; count];
        for &seen in &self.coming {
            places[place(seen)] += 1;
        }
        let mut before = 0;
        for next in &mut places {
            before += core::mem::replace(next, before);
        }
        self.leaving.clear();
        self.leaving.reserve_exact(self.coming.len());
        self.leaving.resize(self.coming.len(), Seen(0));
        for &seen in &self.coming {
            let next = &mut places[place(seen)];
            self.leaving[*next as usize] = seen;
            *next += 1;
        }
    }

    /// Decides what to search for. If there is a live entry that is not a candidate, the search will find
    /// one.
    fn begin<K, V>(&mut self, slab: &Slab<K, V>, uses: Use) {
        self.searched = 0;
        let slots = slab.slots();
        let per_candidate = SLOTS_PER_CANDIDATE[usize::from(slots > SMALL)];
        // At least two, so that something is left if the search must be narrowed.
        self.coming.reserve_exact((slots / per_candidate + slots / 16).min(slab.len()).max(2));
        let mut sample = [0; SAMPLE];
        let (mut seen, mut sampled) = (0_usize, 0);
        for slot in spread(slots, uses ^ self.coming.as_ptr().addr() as u64) {
            seen += 1;
            if let Some(number) = slab.last_use(slot).filter(|&number| number >= self.from) {
                sample[sampled] = number;
                sampled += 1;
            }
        }
        let sample = &mut sample[..sampled];
        if uses - self.from.min(uses) >= WIDEST && sample.iter().min().is_none_or(|eldest| eldest - self.from >= WIDEST)
        {
            // All entries may have been used later than a search from here would look, so it must begin at
            // the earliest of these uses.
            self.from =
                slab.used_from(self.from, uses + 1, 0..slots).map(|(number, _)| number).min().unwrap_or(uses + 1);
        }
        // At least one, so the search covers the oldest of the sample.
        let wanted = seen.div_ceil(per_candidate);
        let latest = if wanted < sampled { *sample.select_nth_unstable(wanted).1 } else { uses + 1 };
        // Every use from now on has a number greater than `uses`.
        self.until = latest.min(self.from + WIDEST);
    }

    /// Forgets everything, since the entries are gone or renumbered.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }

    /// The number of bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        (self.leaving.capacity() + self.coming.capacity()) * size_of::<Seen>()
    }

    /// Asserts that no live entry escapes the search.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate<K, V>(&self, slab: &Slab<K, V>, uses: Use) {
        use alloc::collections::BTreeSet;
        assert!(self.from <= self.until && self.until <= uses + 1, "eldest: {} to {} of {uses}", self.from, self.until);
        let set = |seen: &[Seen], base: Use| -> BTreeSet<(Use, Slot)> {
            seen.iter().map(|seen| (base + seen.since_base(), seen.slot())).collect()
        };
        let (leaving, coming) = (set(&self.leaving, self.base), set(&self.coming, self.from));
        for (number, slot) in slab.uses() {
            assert!(number <= uses, "eldest: {slot:?} was used in the future");
            if number < self.from {
                assert!(leaving.contains(&(number, slot)), "eldest: {slot:?} is not among the candidates");
            } else if number < self.until && slot.index() < self.searched {
                assert!(coming.contains(&(number, slot)), "eldest: {slot:?} was overlooked");
            }
        }
        let (others, sorted) = self.leaving.split_at(self.leaving.len() - self.sorted);
        assert!(sorted.is_sorted_by(|a, b| a > b), "eldest: candidates are not in order");
        let least = others.iter().min();
        assert!(
            least.is_none_or(|least| sorted.first().is_none_or(|last| last < least)),
            "eldest: a part is out of order"
        );
        for seen in [&self.leaving, &self.coming] {
            assert!(seen.len() <= slab.slots(), "eldest: more candidates than slots");
        }
    }
}

/// Returns at most [`SAMPLE`] slots, a random one from each of as many equal parts of the slots. Because it
/// is random, no order of uses can meet it at its worst again and again.
fn spread(slots: usize, seed: u64) -> impl Iterator<Item = Slot> {
    let step = slots.div_ceil((slots / SLOTS_PER_SAMPLED).clamp(SMALLEST_SAMPLE, SAMPLE)).max(1);
    (0..slots).step_by(step).zip(0_u64..).filter_map(move |(begin, number)| {
        // splitmix64.
        let z = (seed ^ number).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let slot = begin + ((z ^ (z >> 31)) >> 32) as usize % step;
        (slot < slots).then_some(Slot(slot as u32))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word::{Horizon, Uses};

    struct Room {
        slab: Slab<u32, ()>,
        eldest: Eldest,
        uses: Use,
    }

    impl Room {
        fn with_entries(entries: u32) -> Self {
            let mut room = Self { slab: Slab::new(), eldest: Eldest::new(), uses: 0 };
            (0..entries).for_each(|key| room.insert(key));
            room
        }

        fn insert(&mut self, key: u32) {
            self.uses += 1;
            self.slab.insert(key, (), Uses::counted(self.uses), Horizon::UNKNOWN);
        }

        fn touch(&mut self, slots: impl IntoIterator<Item = u32>) {
            for slot in slots {
                self.uses += 1;
                self.slab.touch(Slot(slot), Uses::counted(self.uses));
            }
        }

        fn take(&mut self) -> Option<u32> {
            let slot = self.eldest.take(&self.slab, self.uses)?;
            self.slab.remove(slot).map(|entry| entry.key)
        }

        fn evict(&mut self) -> Option<u32> {
            let key = self.take();
            self.eldest.validate(&self.slab, self.uses);
            key
        }

        fn evict_all(&mut self) -> Vec<u32> {
            core::iter::from_fn(|| self.evict()).collect()
        }
    }

    #[test]
    fn nothing_leaves_what_is_empty() {
        let mut room = Room::with_entries(0);
        assert_eq!(room.evict(), None);
        room.insert(7);
        assert_eq!((room.evict(), room.evict(), room.evict()), (Some(7), None, None));
    }

    #[test]
    fn entries_leave_as_they_came_or_were_used() {
        assert_eq!(Room::with_entries(100).evict_all(), (0..100).collect::<Vec<_>>());
        let mut room = Room::with_entries(100);
        room.touch((0..100).rev());
        assert_eq!(room.evict_all(), (0..100).rev().collect::<Vec<_>>());
    }

    #[test]
    fn entries_leave_in_order_however_their_uses_lie() {
        let order = |room: &Room| -> Vec<u32> { room.slab.in_order().iter().map(|slot| slot.0).collect() };
        for entries in [2, 30, 100, 300] {
            // Uses all over the place; and most of them close together, long after the first one.
            for jump in [0, WIDEST * 9 / 10] {
                let mut room = Room::with_entries(entries);
                room.uses += jump;
                room.touch((0..entries - 1).map(|number| 1 + number * 37 % (entries - 1)));
                let expected = order(&room);
                assert_eq!(room.evict_all(), expected);
            }
        }
    }

    #[test]
    fn a_use_saves_candidates_and_those_to_come_alike() {
        let mut room = Room::with_entries(100);
        assert_eq!((0..20).map_while(|_| room.evict()).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        room.touch([21, 60, 22, 99, 21]);
        let expected: Vec<u32> = [20].into_iter().chain(23..60).chain(61..99).chain([60, 22, 99, 21]).collect();
        assert_eq!(room.evict_all(), expected);
    }

    #[test]
    fn all_candidates_may_be_out_of_date() {
        let mut room = Room::with_entries(100);
        room.evict();
        for _ in 0..3 {
            room.touch(1..100);
        }
        assert_eq!(room.evict_all(), (1..100).collect::<Vec<_>>());
    }

    #[test]
    fn slots_that_come_while_a_search_is_under_way_are_found_by_a_later_one() {
        let mut room = Room::with_entries(50);
        (0..10).for_each(|key| assert_eq!(room.evict(), Some(key)));
        (100..200).for_each(|key| room.insert(key));
        assert_eq!(room.evict_all(), (10..50).chain(100..200).collect::<Vec<_>>());
    }

    #[test]
    fn uses_beyond_what_a_candidate_remembers_lie_between() {
        let mut room = Room::with_entries(20);
        for (jump, slot) in [(WIDEST - 3, 4), (1, 5), (WIDEST, 6), (5 * WIDEST, 7)] {
            room.uses += jump;
            room.touch([slot]);
        }
        assert_eq!(room.evict_all(), (0..4).chain(8..20).chain(4..8).collect::<Vec<_>>());
    }

    #[test]
    fn evicting_from_the_few_entries_of_many_slots_searches_little() {
        let mut room = Room::with_entries(100_000);
        (0..100_000).for_each(|key| assert_eq!(room.take(), Some(key)));
        // Slot by slot this would take minutes.
        for key in 0..5_000 {
            room.insert(key);
            assert_eq!(room.take(), Some(key));
        }
        room.eldest.validate(&room.slab, room.uses);
    }

    #[test]
    fn a_misleading_sample_costs_no_memory_and_changes_no_order() {
        let most = |slots: usize| (slots / SLOTS_PER_CANDIDATE[usize::from(slots > SMALL)] + slots / 16).max(2);
        for entries in [3, 50, 100, 300] {
            let mut room = Room::with_entries(entries);
            for round in 0..200_u32 {
                // Now and then only the last three of each sixteen slots are left as they were.
                room.touch((0..entries).filter(|slot| round % 7 != 0 || slot % 16 < 13));
                let mut order = room.slab.in_order().into_iter();
                for _ in 0..3 {
                    let eldest = order.next().and_then(|slot| room.slab.get(slot)).map(|entry| entry.key);
                    assert_eq!(room.evict(), eldest);
                }
                (0..3).for_each(|key| room.insert(key + 1000 * round));
                let bytes = 2 * most(entries as usize) * size_of::<Seen>();
                assert!(room.eldest.bytes() <= bytes, "{} of {bytes} bytes", room.eldest.bytes());
            }
        }
    }

    #[test]
    fn a_sample_is_spread_over_all_slots() {
        for slots in [0, 1, 3, 4, 31, 64, 1000, 4096, 100_000] {
            for seed in 0..20 {
                let sample: Vec<usize> = spread(slots, seed).map(Slot::index).collect();
                assert!(sample.len() <= SAMPLE && (slots == 0 || !sample.is_empty() || slots < 2 * SMALLEST_SAMPLE));
                assert!(sample.is_sorted_by(|a, b| a < b) && sample.last().is_none_or(|&last| last < slots));
            }
        }
    }
}
