//! From a hash to a slot.
//!
//! The shard calls it with the caller's 64-bit hash; keys are compared by the closure that comes
//! along. Only the low 32 bits are used and kept, four bytes an entry, so the table grows without
//! running anybody's `Hash`, and the caller may route to shards by the high 32. The index never
//! sees a key.

use hashbrown::HashTable;

use crate::column::Column;
use crate::probe::ProbeHint;
use crate::slot::Slot;

/// The part of the caller's hash that a shard uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShortHash(pub(crate) u32);

impl ShortHash {
    #[inline]
    pub(crate) const fn of(hash: u64) -> Self {
        Self(hash as u32)
    }

    /// As `hashbrown` wants it: it takes the top seven bits as a tag and the low ones as a
    /// position.
    #[inline]
    const fn folded(self) -> u64 {
        (self.0 as u64) << 32 | self.0 as u64
    }

    /// The bucket where `hashbrown` begins to look, in a table of `mask + 1` of them. (It doesn't promise that; only hints
    /// depend on it. No table has more than 2^32 buckets.)
    #[inline]
    pub(crate) const fn probe_start(self, mask: usize) -> usize {
        self.0 as usize & mask
    }
}

/// The hash of a slot, for a table that grows.
fn rehash(hashes: &Column<u32>) -> impl Fn(&Slot) -> u64 + '_ {
    |&slot| ShortHash(hashes.get(slot)).folded()
}

/// Which slots have which hash.
#[repr(C)]
pub(crate) struct Index {
    table: HashTable<Slot>,
    /// The hash of every slot in the table.
    hashes: Column<u32>,
}

impl Index {
    /// How much of its beginning a look-up reads: of the table, the two words that say where it is. (`hashbrown` doesn't
    /// promise that they come first; measured, they do.)
    pub(crate) const HOT_BYTES: usize = 16;

    pub(crate) fn new() -> Self {
        Self { table: HashTable::new(), hashes: Column::new(0) }
    }

    #[inline]
    pub(crate) fn hash_of(&self, slot: Slot) -> ShortHash {
        ShortHash(self.hashes.get(slot))
    }

    /// Starts loading the hash of a slot.
    #[inline]
    pub(crate) fn prefetch_hash(&self, slot: Slot) {
        self.hashes.prefetch(slot);
    }

    /// The first slot under `hash` that `is_it` accepts. It may be asked about slots with other
    /// hashes, too.
    #[inline]
    pub(crate) fn find(&self, hash: ShortHash, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        self.table.find(hash.folded(), |&slot| is_it(slot)).copied()
    }

    /// A slot that is probably the one sought; nobody has looked at its hash or key.
    #[inline]
    pub(crate) fn guess(&self, hash: ShortHash) -> Option<Slot> {
        self.table.find(hash.folded(), |_| true).copied()
    }

    /// All slots with exactly this hash, in no order.
    pub(crate) fn with_hash(&self, hash: ShortHash) -> impl Iterator<Item = Slot> + '_ {
        self.table.iter_hash(hash.folded()).copied().filter(move |&slot| self.hash_of(slot) == hash)
    }

    /// Grows at once to what `hint` slots need, if it must grow now and has a sixteenth of them:
    /// the move is then much shorter than the last one would be if the table doubled all the way.
    #[inline]
    pub(crate) fn grow_ahead(&mut self, hint: usize) {
        let len = self.table.len();
        if len == self.table.capacity() && len >= hint / 16 && self.table.num_buckets() < hint {
            self.table.reserve(hint - len, rehash(&self.hashes));
        }
    }

    /// Adds a slot, and says where the table is now. `capacity` is that of the slab.
    #[inline]
    pub(crate) fn insert(&mut self, hash: ShortHash, slot: Slot, capacity: usize) -> ProbeHint {
        self.hashes.set(slot, hash.0, capacity);
        let hashes = &self.hashes;
        let inserted = self.table.insert_unique(hash.folded(), slot, rehash(hashes));
        let bucket = core::ptr::from_ref(inserted.get()).addr();
        let base = bucket + (inserted.bucket_index() + 1) * size_of::<Slot>();
        ProbeHint { base, mask: self.table.num_buckets() - 1 }
    }

    /// Takes a slot out and adds it again under another hash, and says where the table is now. `capacity` is that of the slab.
    #[inline]
    pub(crate) fn move_to(&mut self, hash: ShortHash, slot: Slot, capacity: usize) -> ProbeHint {
        self.remove(slot);
        self.insert(hash, slot, capacity)
    }

    /// Takes a slot out.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) {
        let found = self.table.find_entry(self.hash_of(slot).folded(), |&other| other == slot);
        debug_assert!(found.is_ok(), "{slot:?} is removed but not in the index");
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.table.allocation_size() + self.hashes.bytes()
    }

    /// Asserts that each of the `live` slots is found under its hash, and that nothing else is in
    /// the table.
    #[cfg(any(test, fuzzing, feature = "validate"))]
    pub(crate) fn validate(&self, live: impl Iterator<Item = Slot>) {
        let mut count = 0;
        for slot in live {
            let places = self.table.iter_hash(self.hash_of(slot).folded()).filter(|&&other| other == slot).count();
            assert_eq!(places, 1, "index: {slot:?} is in {places} places under its hash");
            count += 1;
        }
        assert_eq!(self.table.len(), count, "index: {} slots in the table, {count} live", self.table.len());
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use super::*;

    /// splitmix64: well mixed, as a cache's hasher must be.
    fn mix(key: u64) -> u64 {
        let z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    #[test]
    fn a_slot_is_found_under_its_hash_until_removed() {
        let hash = |slot: u32| ShortHash::of(mix(u64::from(slot / 2)));
        let mut index = Index::new();
        for slot in 0..1000 {
            index.insert(hash(slot), Slot(slot), 1024);
        }
        index.validate((0..1000).map(Slot));
        assert_eq!(index.with_hash(hash(14)).map(|slot| slot.0).sum::<u32>(), 14 + 15);
        assert_eq!(index.find(hash(14), |slot| slot == Slot(15)), Some(Slot(15)));
        index.remove(Slot(15));
        assert_eq!(index.find(hash(14), |slot| slot == Slot(15)), None);
        assert_eq!(index.with_hash(hash(14)).collect::<Vec<_>>(), [Slot(14)]);
        index.validate((0..1000).filter(|&slot| slot != 15).map(Slot));
    }

    /// What `probe` believes about `hashbrown`: were it otherwise, hints would be of no use, and nobody would notice.
    #[test]
    fn hints_name_the_memory_that_a_look_up_reads_first() {
        let hash = |slot: u32| ShortHash::of(mix(u64::from(slot)));
        let (mut index, mut hint) = (Index::new(), ProbeHint::default());
        for slot in 0..1000 {
            hint = index.insert(hash(slot), Slot(slot), 1024);
        }
        let mut near = 0;
        for slot in 0..1000 {
            let entry = index.table.find_entry(hash(slot).folded(), |&it| it == Slot(slot)).expect("it was inserted");
            let bucket = entry.bucket_index();
            assert_eq!(core::ptr::from_ref(entry.get()).addr(), hint.base - (bucket + 1) * size_of::<Slot>());
            let start = hash(slot).probe_start(hint.mask);
            near += u32::from(bucket.wrapping_sub(start) & hint.mask < 16);
        }
        assert!(near > 900, "{near} of 1000 are in the first group of their probe");
    }

    #[test]
    fn equal_hashes_are_kept_apart_by_the_closure_alone() {
        let mut index = Index::new();
        for slot in 0..40 {
            index.insert(ShortHash(7), Slot(slot), 40);
        }
        for slot in 0..40 {
            assert_eq!(index.find(ShortHash(7), |it| it == Slot(slot)), Some(Slot(slot)));
        }
        index.validate((0..40).map(Slot));
    }

    #[test]
    #[cfg_attr(miri, ignore = "counts twelve million hashes, and has nothing to do with memory")]
    fn tags_keep_their_entropy_within_a_shard_routed_by_the_high_bits() {
        let mut tags = BTreeMap::<u64, u32>::new();
        let in_one_shard = (0..).map(mix).filter(|hash| (hash >> 32) % 128 == 5).take(100_000);
        for hash in in_one_shard {
            *tags.entry(ShortHash::of(hash).folded() >> 57).or_default() += 1;
        }
        let entropy: f64 = tags.values().map(|&n| f64::from(n) / 100_000.0).map(|p| -p * p.log2()).sum();
        assert!(entropy > 6.99, "{entropy} bits of 7");
    }
}
