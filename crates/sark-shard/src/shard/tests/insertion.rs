//! The fast and the slow path of an insertion, and what happens between them.

use alloc::vec;

use super::*;

#[test]
fn the_quick_way_serves_new_entries_and_new_values_and_nothing_else() {
    let mut shard = shard(entries(2));
    let try_insert = |shard: &mut Shard<u64, u64>, key, weight, lifetime, now| {
        let tried = shard.try_insert(hash(key), key, key, weight, lifetime, Nanos(now), &mut NoPool);
        let left = tried.map(|left| left.map(|left| (left.key, left.cause)));
        let outcome = left.map_err(|unstored| shard.end_insert(unstored, Nanos(now), &mut NoPool, &mut Out::new()));
        shard.validate();
        outcome
    };
    let forever = Lifetime::Forever;
    assert_eq!(try_insert(&mut shard, 1, 1, forever, 0), Ok(None), "there is room");
    assert_eq!(try_insert(&mut shard, 2, 1, forever, 0), Ok(None));
    assert_eq!(try_insert(&mut shard, 3, 1, forever, 0), Ok(Some((1, RemovalCause::Size))));
    assert_eq!(try_insert(&mut shard, 2, 1, forever, 0), Ok(Some((2, RemovalCause::Replaced))));
    assert_eq!(
        try_insert(&mut shard, 4, 1, Lifetime::For(5), 0),
        Ok(Some((3, RemovalCause::Size))),
        "2 was used since"
    );
    assert_eq!(try_insert(&mut shard, 4, 1, forever, 4), Err(Insertion::Replaced), "its deadline is near");
    assert_eq!(try_insert(&mut shard, 5, 1, Lifetime::For(0), 4), Err(Insertion::Rejected));
    assert_eq!(try_insert(&mut shard, 6, 3, forever, 4), Err(Insertion::Inserted), "another weight");
    assert_eq!((keys(&mut shard), shard.counters().evicted), (vec![4, 6], 3));
}

#[test]
fn the_shard_is_valid_after_something_was_done_between_the_parts_of_an_insertion() {
    let mut shard = shard(Config::default());
    put(&mut shard, 1);
    let now = Nanos(0);
    let unstored = shard.try_insert(hash(1), 1, 2, 7, Lifetime::For(9), now, &mut NoPool).unwrap_err();
    shard.remove(hash(1), &1, now, &mut Out::new());
    assert_eq!(shard.end_insert(unstored, now, &mut NoPool, &mut Out::new()), Insertion::Inserted);
    shard.validate();
    assert_eq!(get(&mut shard, 1, 0), Some(2));
}

#[test]
fn a_new_entry_in_an_old_one_s_slot_is_another_candidate() {
    let mut shard = shard(entries(1));
    put(&mut shard, 1);
    let Finding::Undecided(undecided) = shard.find_by(hash(1), |_| Match::Ask) else { panic!("it can't be decided") };
    let Finding::Absent(stamp) = shard.find_by(hash(2), |_| Match::Ask) else { panic!("it isn't there") };
    assert_eq!(causes(&put(&mut shard, 2)), [(1, RemovalCause::Size)]);
    assert_eq!(shard.slot_of(undecided.candidates[0]), None);
    let Finding::Undecided(again) = shard.find_by(hash(2), |_| Match::Ask) else { panic!("it can't be decided") };
    assert_ne!(again.stamp, stamp, "2 came since the stamp");
}

#[test]
fn a_new_value_evicts_down_to_a_budget_that_was_lowered() {
    let mut shard = shard(entries(5));
    (0..5).for_each(|key| drop(put(&mut shard, key)));
    shard.set_budget(Room::for_entries(2));
    assert_eq!(put(&mut shard, 1).len(), 4, "three entries, and the older value");
    assert_eq!(keys(&mut shard), [4, 1]);
}
