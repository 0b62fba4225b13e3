//! The numbers of uses: what happens when they run out, and when many lie between two entries.

use super::*;
use crate::word::LAST_USE;

/// Counts as many uses as if other entries had been hit so often.
fn skip_uses(shard: &mut Shard<u64, u64>, uses: u64) {
    shard.uses = Uses::counted(shard.uses.last() + uses);
}

#[test]
fn order_and_counts_outlast_the_numbers_of_uses() {
    let mut shard = shard(entries(10));
    (0..10).for_each(|key| drop(put(&mut shard, key)));
    let hits = 12;
    for n in 0..hits {
        get(&mut shard, n % 3, 0);
    }
    for left in 0..3 {
        // They are counted as uses that are no hits, which the counters don't show.
        let jump = LAST_USE - left - shard.uses.last();
        skip_uses(&mut shard, jump);
        shard.other_uses = shard.other_uses.wrapping_add(jump);
        let before = shard.counters().hits;
        let eldest = keys(&mut shard)[0];
        get(&mut shard, 7, 0);
        assert_eq!(causes(&put(&mut shard, 100 + left)), [(eldest, RemovalCause::Size)]);
        get(&mut shard, 7, 0);
        get(&mut shard, 7, 0);
        assert_eq!(shard.counters().hits, before + 3);
        assert!(shard.uses.last() < 100, "{:?} are numbered", shard.uses);
        shard.validate();
    }
    assert_eq!(keys(&mut shard), [6, 8, 9, 0, 1, 2, 100, 101, 102, 7]);
}

#[test]
fn no_way_of_using_entries_runs_out_of_numbers() {
    type Uses = fn(&mut Shard<u64, u64>);
    let ways: [Uses; 6] = [
        |shard| shard.get(hash(7), &7, Nanos(0), &mut Out::new(), |_| ()).unwrap(),
        |shard| shard.update(hash(7), &7, Nanos(0), &mut Out::new(), |value| *value += 1).unwrap(),
        |shard| {
            let slot = shard.slot(hash(7), &7).unwrap();
            shard.hit_slot(slot, Nanos(0), &mut Out::new(), |_| ()).unwrap();
        },
        |shard| {
            let slot = shard.slot(hash(7), &7).unwrap();
            shard.swap_slot(slot, 8, Lifetime::For(20), Nanos(0)).unwrap();
        },
        |shard| drop(put(shard, 7)),
        |shard| shard.get_batch(&[hash(7); 2], |_| &7, Nanos(0), &mut Out::new(), |_, value| assert!(value.is_some())),
    ];
    for use_it in ways {
        let mut shard = shard(entries(10));
        (0..10).for_each(|key| drop(put(&mut shard, key)));
        let jump = LAST_USE - 1 - shard.uses.last();
        skip_uses(&mut shard, jump);
        shard.other_uses = shard.other_uses.wrapping_add(jump);
        (0..4).for_each(|_| use_it(&mut shard));
        assert!(shard.uses.last() < 100, "{:?} are numbered", shard.uses);
        assert_eq!(keys(&mut shard), [0, 1, 2, 3, 4, 5, 6, 8, 9, 7]);
        shard.validate();
    }
}

#[test]
fn the_order_holds_however_many_uses_lie_between() {
    let mut shard = shard(entries(200));
    (0..100).for_each(|key| drop(put(&mut shard, key)));
    let far = u64::from(u32::MAX);
    for (jump, key) in [(far - 50, 100), (2, 101), (far, 102), (far + 1, 103), (5 * far, 104), (0, 105)] {
        skip_uses(&mut shard, jump);
        put(&mut shard, key);
        shard.validate();
    }
    shard.set_budget(Room::for_entries(1));
    let mut out = Out::new();
    assert!(shard.enforce_budget(1000, &mut out));
    shard.validate();
    assert_eq!(out.iter().map(|removed| removed.key).collect::<Vec<_>>(), (0..105).collect::<Vec<_>>());
    skip_uses(&mut shard, 20 * far);
    assert_eq!(causes(&put(&mut shard, 106)), [(105, RemovalCause::Size)]);
    shard.validate();
}
