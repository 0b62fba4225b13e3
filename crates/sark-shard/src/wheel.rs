//! The timers: a hierarchical wheel that never rounds a deadline.
//!
//! [`Deadlines`](crate::deadlines::Deadlines) calls it. It knows slots and times but not entries, so it is
//! not generic and compiles once. It never calls anyone: its caller pops what is due, one slot at a time.
//!
//! # How it works
//!
//! A time is written in eleven digits of six bits, the lowest of which counts nanoseconds. A deadline is kept
//! at the *level* of the highest digit in which it differs from `elapsed`, the time that the wheel has
//! reached, in the bucket of that digit:
//!
//! ```text
//!              level 2      level 1      level 0
//!  elapsed        3            17           60
//!  deadline       3            19            5        differs first at level 1: bucket 19 of level 1
//! ```
//!
//! So everything at a level comes before everything at the levels above, in the order of the buckets. The
//! earliest bucket is the lowest bit of the first non-empty bitmap, so there is no scan, and no tick to live
//! through. As the wheel advances to `now`, there are three cases:
//!
//! * The earliest bucket starts after `now`: the advance is done.
//! * It ends at or before `now`: all of it has expired, except for what was put off, and nothing else is
//!   moved.
//! * It contains `now`: its deadlines move to lower levels, each at most once a level, except for what was
//!   put off.
//!
//! Scheduling and cancelling are always O(1).
//!
//! A deadline that is put off stays in its bucket, which comes up in time. The deadline moves to where it
//! belongs when that bucket is looked at. So if the entries of a slot come and go long before their
//! deadlines, the slot's timer moves now and then, and not with each entry.
//!
//! A bucket that contains `now` is first hung in the bucket [`DUE`] as a whole, and emptied from there. An
//! advance that runs out of budget goes on from there, and new deadlines can't hide what is left. Deadlines
//! that had already passed when they were set are put there as well.
//!
//! The idea is that of G. Varghese and A. Lauck, *Hashed and Hierarchical Timing Wheels*, SOSP 1987 (scheme
//! 7), with absolute digits instead of a rotating cursor.

use alloc::boxed::Box;

use crate::column::{empty, grown};
use crate::slot::Slot;

const DIGIT_BITS: u32 = 6;
const BUCKETS: u32 = 1 << DIGIT_BITS;
const LEVELS: u32 = u64::BITS.div_ceil(DIGIT_BITS);

/// If a bucket holds at most this many deadlines, the wheel waits for the earliest of them.
const FEW: usize = 8;

/// The bucket of deadlines that have passed and of those being moved. The others are numbered
/// `level * BUCKETS + digit`.
const DUE: u32 = LEVELS * BUCKETS;
/// Set in `Node::prev` of the first node of a bucket; the other bits are the number of the bucket.
const FIRST: u32 = 1 << 31;
/// No node.
const NONE: u32 = u32::MAX;
/// The deadline of a slot that is not scheduled.
const NEVER: u64 = u64::MAX;

/// The timer of one slot. Sixteen bytes, in an array parallel to the slab.
#[derive(Clone, Copy)]
struct Node {
    /// `NEVER` if the slot is not scheduled.
    deadline: u64,
    /// The node before this one in its bucket, or `FIRST | bucket`. Meaningless if not scheduled.
    prev: u32,
    /// The node after this one in its bucket, or `NONE`. Meaningless if not scheduled.
    next: u32,
}

const IDLE: Node = Node { deadline: NEVER, prev: NONE, next: NONE };

/// The buckets of all levels. About three kilobytes, allocated with the first deadline.
struct Buckets {
    /// The first node of each bucket, or `NONE`.
    first: [u32; DUE as usize + 1],
    /// For each level, which buckets have nodes.
    occupied: [u64; LEVELS as usize],
}

/// The deadlines by slot.
#[repr(C)]
pub(crate) struct Wheel {
    /// Shorter than the slab if slots at its end never had a deadline.
    nodes: Box<[Node]>,
    buckets: Option<Box<Buckets>>,
    /// All deadlines before this have been popped, or are in `DUE`.
    elapsed: u64,
    /// The number of scheduled slots.
    len: usize,
    /// No deadline is before this. The earliest one is usually not much later, unless some were put off.
    quiet_until: u64,
}

/// Returns the bucket of `deadline` in a wheel that has reached `elapsed`.
#[inline]
fn bucket_for(deadline: u64, elapsed: u64) -> u32 {
    if deadline <= elapsed {
        return DUE;
    }
    let level = (deadline ^ elapsed).ilog2() / DIGIT_BITS;
    let digit = (deadline >> (level * DIGIT_BITS)) as u32 % BUCKETS;
    level * BUCKETS + digit
}

/// Returns the first and the last time that belong in a bucket other than `DUE`.
#[inline]
fn range_of(bucket: u32, elapsed: u64) -> (u64, u64) {
    let (level, digit) = (bucket / BUCKETS, bucket % BUCKETS);
    let shift = level * DIGIT_BITS;
    let above = u64::MAX.checked_shl(shift + DIGIT_BITS).unwrap_or(0);
    let start = (elapsed & above) | (u64::from(digit) << shift);
    (start, start | !(u64::MAX << shift))
}

impl Buckets {
    fn new() -> Box<Self> {
        Box::new(Self { first: [NONE; DUE as usize + 1], occupied: [0; LEVELS as usize] })
    }

    /// Sets the first node of a bucket, and the bit that says whether there is one.
    #[inline]
    fn set_first(&mut self, bucket: u32, node: u32) {
        self.first[bucket as usize] = node;
        if let Some(bits) = self.occupied.get_mut((bucket / BUCKETS) as usize) {
            let bit = 1 << (bucket % BUCKETS);
            *bits = if node == NONE { *bits & !bit } else { *bits | bit };
        }
    }

    /// Returns the bucket with the earliest deadlines, apart from `DUE`.
    #[inline]
    fn earliest(&self) -> Option<u32> {
        let (level, bits) = (0..).zip(self.occupied).find(|&(_, bits)| bits != 0)?;
        Some(level * BUCKETS + bits.trailing_zeros())
    }
}

impl Wheel {
    /// How many bytes at its beginning a hit reads.
    pub(crate) const HOT_BYTES: usize = size_of::<Box<[Node]>>();

    /// Returns a wheel that has reached `elapsed` and has no deadlines.
    pub(crate) fn at(elapsed: u64) -> Self {
        Self { nodes: empty(), buckets: None, elapsed, len: 0, quiet_until: NEVER }
    }

    /// The deadline of `slot`; `u64::MAX` if there is none.
    #[inline]
    pub(crate) fn deadline(&self, slot: Slot) -> u64 {
        self.nodes.get(slot.index()).map_or(NEVER, |node| node.deadline)
    }

    /// The number of slots with a deadline.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The time that the wheel has reached.
    #[inline]
    pub(crate) fn elapsed(&self) -> u64 {
        self.elapsed
    }

    /// Gives `slot` a deadline in place of the one it had, or none if it is `u64::MAX`. O(1).
    ///
    /// `capacity` is that of the slab, so that the nodes grow when it does.
    #[inline]
    pub(crate) fn schedule(&mut self, slot: Slot, deadline: u64, capacity: usize) {
        if deadline != NEVER
            && let Some(node) = self.nodes.get_mut(slot.index())
            && node.deadline <= deadline
        {
            // Put off: the slot was scheduled before, and its bucket comes up in time.
            node.deadline = deadline;
        } else {
            self.reschedule(slot, deadline, capacity);
        }
    }

    /// Does the same for a slot that had no deadline or a later one, or is to have none.
    fn reschedule(&mut self, slot: Slot, deadline: u64, capacity: usize) {
        self.cancel(slot);
        if deadline == NEVER {
            return;
        }
        if self.nodes.len() <= slot.index() {
            self.extend_to(slot, capacity);
        }
        self.nodes[slot.index()].deadline = deadline;
        self.link(slot.0);
        self.len += 1;
        self.quiet_until = self.quiet_until.min(deadline);
    }

    /// Takes away the deadline of `slot`, if it has one. O(1).
    #[inline]
    pub(crate) fn cancel(&mut self, slot: Slot) {
        if self.deadline(slot) != NEVER {
            self.unlink(slot.0);
            self.nodes[slot.index()] = IDLE;
            self.len -= 1;
        }
    }

    /// Takes one slot whose deadline is at or before `now` out of the wheel. Repeated calls take out one
    /// after another until there is none.
    ///
    /// Each slot taken or moved costs one of `budget`. `None` means that nothing is due any more, or that the
    /// budget is used up; [`Self::is_due`] tells which. If `now` is before an earlier `now`, the earlier one
    /// counts.
    pub(crate) fn pop_due(&mut self, now: u64, budget: &mut usize) -> Option<Slot> {
        let now = now.max(self.elapsed);
        while *budget > 0 {
            let Some(buckets) = &mut self.buckets else { break };
            let first = buckets.first[DUE as usize];
            if first != NONE {
                *budget -= 1;
                if let Some(slot) = self.take_or_move(first, now) {
                    return Some(slot);
                }
                continue;
            }
            let Some(bucket) = buckets.earliest() else { break };
            let (start, end) = range_of(bucket, self.elapsed);
            if start > now {
                break;
            }
            let first = buckets.first[bucket as usize];
            if end <= now {
                *budget -= 1;
                if let Some(slot) = self.take_or_move(first, now) {
                    return Some(slot);
                }
                continue;
            }
            self.elapsed = start;
            buckets.set_first(bucket, NONE);
            buckets.set_first(DUE, first);
            self.nodes[first as usize].prev = FIRST | DUE;
        }
        let (begins, deadline) = self.outlook();
        if begins > now {
            self.elapsed = now;
        }
        self.quiet_until = deadline;
        None
    }

    /// Returns when the bucket with the earliest deadlines begins, and a time from then on that is not after
    /// any deadline.
    ///
    /// The second time is the earliest deadline itself if those of the bucket are few and not put off. So no
    /// caller comes once when the bucket begins and then again for what is in it. Both are `NEVER` if there
    /// are no deadlines, and zero if something is already due or being moved.
    fn outlook(&self) -> (u64, u64) {
        let Some(buckets) = self.buckets.as_deref() else { return (NEVER, NEVER) };
        if buckets.first[DUE as usize] != NONE {
            return (0, 0);
        }
        let Some(bucket) = buckets.earliest() else { return (NEVER, NEVER) };
        let (start, end) = range_of(bucket, self.elapsed);
        // What was put off beyond the bucket may come after what is in the next one.
        let mut earliest = end.saturating_add(1);
        let mut node = buckets.first[bucket as usize];
        for _ in 0..FEW {
            let Node { deadline, next, .. } = self.nodes[node as usize];
            (earliest, node) = (earliest.min(deadline), next);
            if node == NONE {
                return (start, earliest);
            }
        }
        (start, start)
    }

    /// The slots that [`Self::pop_due`] takes out next, as far as is known: those that are due among the next
    /// ones it looks at, in one bucket.
    pub(crate) fn upcoming(&self, now: u64, among: usize) -> impl Iterator<Item = Slot> + '_ {
        let some = |node: u32| (node != NONE).then_some(node);
        let first = self.buckets.as_deref().and_then(|buckets| {
            let due = some(buckets.first[DUE as usize]);
            due.or_else(|| some(buckets.first[buckets.earliest()? as usize]))
        });
        let bucket = core::iter::successors(first, move |&node| some(self.nodes[node as usize].next));
        bucket.take(among).filter(move |&node| self.nodes[node as usize].deadline <= now).map(Slot)
    }

    /// Whether an advance to `now` has anything to do.
    #[inline]
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.next().is_some_and(|next| next <= now.max(self.elapsed))
    }

    /// Returns a time that is not after the earliest deadline, and at which an advance may have something to
    /// do.
    #[inline]
    pub(crate) fn next(&self) -> Option<u64> {
        Some(self.earliest_bucket()?.max(self.quiet_until))
    }

    /// Returns when the bucket with the earliest deadlines begins, or zero if something is already due or
    /// being moved.
    #[inline]
    fn earliest_bucket(&self) -> Option<u64> {
        let buckets = self.buckets.as_deref()?;
        if buckets.first[DUE as usize] != NONE {
            return Some(0);
        }
        Some(range_of(buckets.earliest()?, self.elapsed).0)
    }

    /// Returns a time that is not after the earliest deadline, and is `u64::MAX` only if there is none. It is
    /// not after [`next`](Self::next) either, but is at hand without a search.
    #[inline]
    pub(crate) fn quiet_until(&self) -> u64 {
        self.quiet_until
    }

    /// Starts loading the deadline of `slot`.
    #[inline]
    pub(crate) fn prefetch(&self, slot: Slot) {
        if let Some(node) = self.nodes.get(slot.index()) {
            crate::prefetch::prefetch(node);
        }
    }

    /// The number of bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>() + self.buckets.as_deref().map_or(0, size_of_val)
    }

    #[cold]
    fn extend_to(&mut self, slot: Slot, capacity: usize) {
        let nodes = core::mem::take(&mut self.nodes);
        self.nodes = grown(nodes, capacity.max(slot.index() + 1), || IDLE);
    }

    /// Takes a scheduled node out for good if it is due, and moves it to where it belongs if it isn't.
    #[inline]
    fn take_or_move(&mut self, node: u32, now: u64) -> Option<Slot> {
        if self.nodes[node as usize].deadline <= now {
            self.cancel(Slot(node));
            return Some(Slot(node));
        }
        self.unlink(node);
        self.link(node);
        None
    }

    /// Puts a node that has a deadline into its bucket.
    #[inline]
    fn link(&mut self, node: u32) {
        let buckets = self.buckets.get_or_insert_with(Buckets::new);
        let bucket = bucket_for(self.nodes[node as usize].deadline, self.elapsed);
        let next = buckets.first[bucket as usize];
        if next != NONE {
            self.nodes[next as usize].prev = node;
        }
        let place = &mut self.nodes[node as usize];
        (place.prev, place.next) = (FIRST | bucket, next);
        buckets.set_first(bucket, node);
    }

    /// Takes a node out of its bucket.
    #[inline]
    fn unlink(&mut self, node: u32) {
        let Node { prev, next, .. } = self.nodes[node as usize];
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        if prev & FIRST == 0 {
            self.nodes[prev as usize].next = next;
        } else if let Some(buckets) = &mut self.buckets {
            buckets.set_first(prev & !FIRST, next);
        }
    }

    /// Asserts that each scheduled slot is once in the bucket where it belongs or in one that comes before
    /// it, and that bitmaps and count agree.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate(&self) {
        let scheduled = self.nodes.iter().filter(|node| node.deadline != NEVER).count();
        assert_eq!(scheduled, self.len, "wheel: {scheduled} slots are scheduled, {} are counted", self.len);
        let earliest = self.nodes.iter().map(|node| node.deadline).min().unwrap_or(NEVER);
        assert!(self.quiet_until <= earliest, "wheel: {earliest} comes before {}", self.quiet_until);
        let Some(buckets) = &self.buckets else {
            assert_eq!(self.len, 0, "wheel: deadlines without buckets");
            return;
        };
        let mut found = 0;
        for bucket in 0..=DUE {
            let (mut node, mut before) = (buckets.first[bucket as usize], FIRST | bucket);
            if bucket != DUE {
                let bit = buckets.occupied[(bucket / BUCKETS) as usize] >> (bucket % BUCKETS) & 1;
                assert_eq!(bit == 1, node != NONE, "wheel: the bit of bucket {bucket} is wrong");
            }
            while node != NONE {
                let Node { deadline, prev, next } = self.nodes[node as usize];
                assert_eq!(prev, before, "wheel: slot {node} doesn't know what is before it");
                assert_ne!(deadline, NEVER, "wheel: slot {node} is in bucket {bucket} but not scheduled");
                let right = bucket_for(deadline, self.elapsed);
                assert!(bucket == DUE || bucket <= right, "wheel: slot {node} is in {bucket}, which is after {right}");
                let ahead = bucket == DUE || range_of(bucket, self.elapsed).0 > self.elapsed;
                assert!(ahead, "wheel: slot {node} is in {bucket}, which {} has reached", self.elapsed);
                (before, node, found) = (node, next, found + 1);
                assert!(found <= scheduled, "wheel: bucket {bucket} is a circle, or a slot is in two");
            }
        }
        assert_eq!(found, scheduled, "wheel: a scheduled slot is in no bucket");
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
