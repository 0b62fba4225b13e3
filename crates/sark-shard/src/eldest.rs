//! Who leaves next: the entries used least recently, found ahead.
//!
//! A use only writes its number beside its entry, so the order of entries is written nowhere. It matters to who evicts, and to
//! him only its beginning. So the entries are searched for those used before a certain time, about a quarter of them, chosen
//! by a sample: the *candidates*. One after the other they leave, the eldest first; one that was used or removed since its
//! number was read is passed over. Meanwhile the next candidates are searched for, in slices, one entry after the other in
//! memory, at such a pace that the search is over when it is needed.
//!
//! The order is exact LRU: all live entries that are no candidates were used later than the candidates were when they
//! became such, and a candidate leaves only if it was not used since.
//!
//! What a candidate costs is the same however many entries there are: some four entries searched, and its share of sorting. It
//! ends by an eviction, or by a use or removal of its entry; so all of these are O(1) in the long run. A single eviction may cost
//! more: a slice of the search and of sorting as a rule, but a whole search, a nanosecond or so an entry, if hardly any entry is
//! as it was when it was searched, and at the first eviction ever.
//!
//! The shard calls it.

use alloc::vec::Vec;

use crate::nodes::Use;
use crate::slab::Slab;
use crate::slot::Slot;

/// One of so many slots becomes a candidate in a search.
const SLOTS_PER_CANDIDATE: usize = 4;
/// So many slots are looked at to decide which uses are early enough, or one in so many of a small shard.
const SAMPLE: usize = 64;
const SLOTS_PER_SAMPLED: usize = 8;
const SMALLEST_SAMPLE: usize = 16;
/// After so many candidates the search goes on.
const SLICE: usize = 64;
/// Candidates are put in order by so many at a time, or by this part of them.
const SORTED_PART: usize = 8;
/// How many turns before its own a candidate's node is asked for.
const AHEAD: usize = 4;

/// An entry as it was when it was searched: its last use, counted from some base, and its slot. Ordered by use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate(u64);

impl Candidate {
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

/// The candidates, and the search for the next ones.
pub(crate) struct Eldest {
    /// All live entries last used before `from` are in here as they are, in any order, but that the eldest of all are at the
    /// end, the eldest last. Others in here are out of date.
    leaving: Vec<Candidate>,
    /// How many at the end of `leaving` are in order.
    sorted: usize,
    /// What uses in `leaving` count from.
    base: Use,
    /// All live entries last used from here on, but not from `until` on, are searched for: those in slots below `searched`
    /// are in `coming` as they are. Others in there are out of date.
    from: Use,
    /// Not later than any use since the search began; less than 2^32 uses after `from`.
    until: Use,
    searched: usize,
    /// Uses count from `from`.
    coming: Vec<Candidate>,
    /// How many slots are searched when a candidate is through.
    pace: usize,
}

impl Eldest {
    pub(crate) const fn new() -> Self {
        Self { leaving: Vec::new(), sorted: 0, base: 0, from: 0, until: 0, searched: 0, coming: Vec::new(), pace: 0 }
    }

    /// The least recently used entry, for the caller to remove: it is no candidate any more. `uses` is the number of the last use.
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

    /// Who is probably taken next, if that was found out already.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Slot> {
        self.leaving.last().map(|candidate| candidate.slot())
    }

    /// The next candidate.
    #[inline]
    fn pop<K, V>(&mut self, slab: &Slab<K, V>) -> Option<Candidate> {
        if self.sorted.is_multiple_of(SLICE) {
            self.go_on(slab);
        }
        let candidate = self.leaving.pop()?;
        self.sorted -= 1;
        if let Some(soon) = self.leaving.get(self.leaving.len().wrapping_sub(AHEAD)) {
            slab.prefetch(soon.slot());
        }
        Some(candidate)
    }

    /// Searches on for what the next candidates cost, and sees to it that they are in order.
    #[inline(never)]
    fn go_on<K, V>(&mut self, slab: &Slab<K, V>) {
        if self.sorted == 0 {
            self.sort_some();
        }
        self.search(slab, self.pace * self.leaving.len().min(SLICE));
    }

    /// Puts the eldest candidates in order, at the end.
    fn sort_some(&mut self) {
        let count = (self.leaving.len() / SORTED_PART).max(SLICE).min(self.leaving.len());
        let at = self.leaving.len() - count;
        if at != 0 {
            self.leaving.select_nth_unstable_by(at, |a, b| b.cmp(a));
        }
        self.leaving[at..].sort_unstable_by(|a, b| b.cmp(a));
        self.sorted = count;
    }

    /// Searches a number of slots more.
    fn search<K, V>(&mut self, slab: &Slab<K, V>, slots: usize) {
        let end = slab.slots().min(self.searched.saturating_add(slots));
        for (number, slot) in slab.used_from(self.from, self.until, self.searched..end) {
            self.coming.push(Candidate::new((number - self.from) as u32, slot));
        }
        self.searched = end.max(self.searched);
    }

    /// No candidate is left: completes the search, takes what it found, and begins another.
    #[cold]
    #[inline(never)]
    fn turn<K, V>(&mut self, slab: &Slab<K, V>, uses: Use) {
        debug_assert!(self.leaving.is_empty());
        self.search(slab, usize::MAX);
        core::mem::swap(&mut self.leaving, &mut self.coming);
        if self.leaving.is_sorted() {
            // Where nothing is hit, entries leave as they came, and lie in memory like that.
            self.leaving.reverse();
            self.sorted = self.leaving.len();
        }
        (self.base, self.from) = (self.from, self.until);
        self.begin(slab, uses);
        self.pace = slab.slots().div_ceil(self.leaving.len().max(1));
    }

    /// Decides what to search for.
    fn begin<K, V>(&mut self, slab: &Slab<K, V>, uses: Use) {
        self.searched = 0;
        let slots = slab.slots();
        let step = slots.div_ceil((slots / SLOTS_PER_SAMPLED).clamp(SMALLEST_SAMPLE, SAMPLE)).max(1);
        let mut sample = [0; SAMPLE];
        let (mut seen, mut sampled) = (0_usize, 0);
        for slot in (uses as usize % step..slots).step_by(step).take(SAMPLE) {
            seen += 1;
            if let Some(number) = slab.last_use(Slot(slot as u32)).filter(|&number| number >= self.from) {
                sample[sampled] = number;
                sampled += 1;
            }
        }
        let sample = &mut sample[..sampled];
        // What a candidate remembers of its use are 32 bits. After more uses without an eviction, and if the sample found nothing,
        // one has to know where to begin.
        if sample.iter().min().is_none_or(|eldest| eldest - self.from >= u64::from(u32::MAX)) {
            self.from =
                slab.used_from(self.from, uses + 1, 0..slots).map(|(number, _)| number).min().unwrap_or(uses + 1);
        }
        let wanted = seen.div_ceil(SLOTS_PER_CANDIDATE);
        let latest = if wanted < sampled { *sample.select_nth_unstable(wanted).1 } else { uses + 1 };
        // A use from now on has a later number than `uses`.
        self.until = latest.min(self.from.saturating_add(u64::from(u32::MAX)));
    }

    /// Forgets everything: the entries are gone.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        (self.leaving.capacity() + self.coming.capacity()) * size_of::<Candidate>()
    }

    /// Asserts that no live entry escapes the search.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate<K, V>(&self, slab: &Slab<K, V>, uses: Use) {
        use alloc::collections::BTreeSet;
        assert!(self.from <= self.until && self.until <= uses + 1, "eldest: {} to {} of {uses}", self.from, self.until);
        let set = |candidates: &[Candidate], base: Use| -> BTreeSet<(Use, Slot)> {
            candidates.iter().map(|candidate| (base + candidate.since_base(), candidate.slot())).collect()
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
    }
}
