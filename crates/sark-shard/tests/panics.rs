//! Panics in the caller's code, wherever that runs: the shard stays valid, and nothing is lost or doubled.
#![cfg(feature = "validate")]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use sark_shard::{
    Config, EntryRef, Insertion, Lifetime, Match, Nanos, NoPool, Pool, Removals, Removed, Room, Shard, Walk,
};

/// Counts down at each call of the caller's code, and panics at zero.
#[derive(Clone)]
struct Fuse(Rc<Cell<u32>>);

impl Fuse {
    const NEVER: u32 = u32::MAX;

    fn new() -> Self {
        Self(Rc::new(Cell::new(Self::NEVER)))
    }

    fn burn(&self) {
        match self.0.get() {
            Self::NEVER => {}
            0 => {
                self.0.set(Self::NEVER);
                panic!("burnt");
            }
            left => self.0.set(left - 1),
        }
    }
}

/// A thing that is equal by number. Comparing, cloning and dropping it may panic.
struct Thing {
    number: u64,
    fuse: Fuse,
    alive: Rc<Cell<i64>>,
}

impl PartialEq for Thing {
    fn eq(&self, other: &Self) -> bool {
        self.fuse.burn();
        self.number == other.number
    }
}

impl Eq for Thing {}

impl Clone for Thing {
    fn clone(&self) -> Self {
        self.fuse.burn();
        self.alive.set(self.alive.get() + 1);
        Self { number: self.number, fuse: self.fuse.clone(), alive: Rc::clone(&self.alive) }
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
        if !std::thread::panicking() {
            self.fuse.burn();
        }
    }
}

/// Takes everything in, and may panic after it has.
struct Bin(Vec<Removed<Thing, Thing>>, Fuse);

impl Removals<Thing, Thing> for Bin {
    fn push(&mut self, removed: Removed<Thing, Thing>) {
        self.0.push(removed);
        self.1.burn();
    }
}

struct BurningPool(Fuse);

impl Pool for BurningPool {
    fn take(&mut self, _wanted: Room) -> Room {
        self.0.burn();
        Room::NONE
    }
}

struct World {
    shard: Shard<Thing, Thing>,
    bin: Bin,
    fuse: Fuse,
    alive: Rc<Cell<i64>>,
    now: Nanos,
    /// Whether all entries weigh one and live forever, so that insertions take the fast path.
    plain: bool,
}

impl World {
    fn new(plain: bool) -> Self {
        let fuse = Fuse::new();
        let config = if plain {
            Config { budget: Room::for_entries(5), ..Config::default() }
        } else {
            Config { budget: Room { entries: 8, weight: 30 }, time_to_live: Some(50), ..Config::default() }
        };
        Self {
            shard: Shard::new(config),
            bin: Bin(Vec::new(), fuse.clone()),
            fuse,
            alive: Rc::new(Cell::new(0)),
            now: Nanos(0),
            plain,
        }
    }

    fn thing(&self, number: u64) -> Thing {
        self.alive.set(self.alive.get() + 1);
        Thing { number, fuse: self.fuse.clone(), alive: Rc::clone(&self.alive) }
    }

    /// All keys share four hashes, so there are many comparisons.
    fn hash(number: u64) -> u64 {
        (number % 4).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn act(&mut self, action: u64, number: u64) {
        let (hash, key, now) = (Self::hash(number), self.thing(number), self.now);
        let Self { shard, bin, plain, .. } = self;
        match action % 9 {
            0..3 => {
                let value = key.clone();
                let weight = if *plain { 1 } else { (number % 7) as u32 };
                let mut pool = BurningPool(self.fuse.clone());
                let outcome = shard.insert(hash, key, value, weight, Lifetime::Default, now, &mut pool, bin);
                assert!(!matches!(outcome, Insertion::Short { .. }), "it fits");
            }
            3 => drop(shard.get(hash, &key, now, bin, Thing::clone)),
            4 => drop(shard.remove(hash, &key, now, bin)),
            5 => drop(shard.update(hash, &key, now, bin, |value| *value = value.clone())),
            6 => {
                let keys = [&key, &key, &key];
                shard.get_batch(&[hash; 3], |i| keys[i], now, bin, |_, value| drop(value.cloned()));
            }
            7 => {
                // A walk that a panic ended goes on after that entry.
                let (mut walk, mut visits) = (Walk::new(), 0);
                let keep = |entry: EntryRef<'_, Thing, Thing>| *entry.key != key;
                let mut judge = || {
                    while !walk.is_over() {
                        visits += 1;
                        shard.retain_some(&mut walk, 1, now, keep, bin);
                        shard.visit(&mut walk, 1, |_, entry| drop(entry.value.clone()));
                    }
                };
                let outcome = catch_unwind(AssertUnwindSafe(&mut judge));
                judge();
                assert!(visits < 20, "it makes no progress");
                outcome.unwrap_or_else(|panic| resume_unwind(panic));
            }
            _ => {
                drop(shard.find_by(hash, |other| if *other == key { Match::Equal } else { Match::Ask }));
                shard.advance(now, 5, bin);
                shard.evict(Room::for_weight(0).min(Room { entries: 1, weight: 0 }), bin);
            }
        }
    }

    fn check(&mut self) {
        self.shard.validate();
        let fuse = self.fuse.0.replace(Fuse::NEVER);
        self.bin.0.clear();
        self.fuse.0.set(fuse);
        assert_eq!(self.alive.get(), 2 * self.shard.len() as i64, "something was lost or doubled");
    }
}

#[test]
fn a_panic_of_the_callers_code_leaves_the_shard_valid_wherever_it_comes() {
    // Panics with that message are silent, since hundreds of them are the point.
    std::panic::set_hook(Box::new(|info| {
        if info.payload_as_str() != Some("burnt") {
            eprintln!("{info}");
        }
    }));
    let mut panics = 0;
    // Under Miri each takes a second.
    let lengths = if cfg!(miri) { 10 } else { 250 };
    for length in 0..lengths {
        let mut world = World::new(length % 2 == 1);
        world.fuse.0.set(length);
        for step in 0..120u64 {
            let random = (step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ u64::from(length)) >> 20;
            world.now = Nanos(step);
            let outcome = catch_unwind(AssertUnwindSafe(|| world.act(random, (random >> 8) % 14)));
            if outcome.is_err() {
                panics += 1;
                world.fuse.0.set(length % 50);
            }
            world.check();
        }
        let World { shard, alive, fuse, .. } = world;
        fuse.0.set(3);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(shard)));
        assert_eq!(alive.get(), 0, "a panicking drop kept others from being dropped");
    }
    let _ = std::panic::take_hook();
    assert!(panics > 4 * lengths, "only {panics} panics");
}

#[test]
fn contents_drop_the_rest_when_one_panics() {
    let mut world = World::new(false);
    for number in 0..8 {
        let (key, value) = (world.thing(number), world.thing(number));
        let hash = World::hash(number);
        let _ = world.shard.insert(hash, key, value, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut world.bin);
    }
    let mut contents = world.shard.clear();
    drop(contents.next());
    world.fuse.0.set(5);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(contents))).is_err());
    world.check();
}
