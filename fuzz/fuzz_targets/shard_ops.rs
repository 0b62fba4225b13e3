//! Any sequence of the shard's operations, compared with the naive reference of the shard's model test.
//!
//! In addition to that test, inputs are guided by coverage, time may go back, numbers may be extreme, and
//! answers (slots, candidates, stamps) are kept while anything else happens and used much later.
#![no_main]

#[allow(dead_code, reason = "the model test uses all of it")]
#[path = "../../crates/sark-shard/tests/reference/mod.rs"]
mod reference;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use reference::{Line, Model, Outcome, Purse, Rules, hash};
use sark_shard::{
    Candidate, Changed, Config, EntryRef, Finding, Insertion, Lifetime, Match, Nanos, RemovalCause, Removed, Room,
    Shard, Slot, Stamp, Undecided, Walk,
};

/// A key. Keys are equal by `id`; the edition shows which of two equal keys is kept.
#[derive(Clone, Copy, Debug)]
struct Key {
    id: u8,
    edition: u32,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Key {}

/// A value that is counted while it exists.
#[derive(Debug)]
struct Value(u32, #[expect(dead_code, reason = "counted, never read")] Rc<()>);

/// A key's number, usually one of few.
#[derive(Clone, Copy, Debug)]
struct Id(u8);

impl Arbitrary<'_> for Id {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        let byte = u8::arbitrary(input)?;
        Ok(Self(if byte < 200 { byte % 10 } else { byte }))
    }
}

/// A number, usually a small one.
#[derive(Clone, Copy, Debug)]
struct Amount(u64);

impl Arbitrary<'_> for Amount {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        let byte = u8::arbitrary(input)?;
        Ok(Self(match byte {
            0..224 => u64::from(byte % 64),
            224..240 => u64::from(u16::arbitrary(input)?),
            240..254 => u64::arbitrary(input)? >> (byte % 64),
            _ => u64::MAX,
        }))
    }
}

impl Amount {
    fn weight(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Life {
    Default,
    Forever,
    For(Amount),
}

impl Life {
    fn lifetime(self) -> Lifetime {
        match self {
            Self::Default => Lifetime::Default,
            Self::Forever => Lifetime::Forever,
            Self::For(nanos) => Lifetime::For(nanos.0),
        }
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Space {
    entries: Amount,
    weight: Amount,
}

impl Space {
    fn room(self) -> Room {
        Room { entries: self.entries.0, weight: self.weight.0 }
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    Get(Id),
    Peek(Id),
    Update(Id),
    Batch(Vec<Id>),
    Insert(Id, Amount, Life),
    Reject(Id, Amount),
    Remove(Id),
    RemoveLru,
    SetLifetime(Id, Life),
    /// Keeps the answer of a look-up by predicate, which may or may not be able to tell keys apart.
    Ask(Id, bool),
    /// Stores an entry by one of the kept answers.
    Answer(u8, Amount, Life),
    /// Does something with a slot returned earlier.
    BySlot(u8, SlotStep),
    /// Goes on with a walk through all entries.
    Visit(u8),
    /// The same, keeping the entries whose number has no bit in common with the second one.
    RetainSome(u8, u8),
    Pass(Amount),
    Back(u16),
    Advance(u8),
    SetBudget(Space),
    TakeSurplus,
    Evict(Space),
    Enforce(u8),
    Donate(Space),
    /// Takes this many of the contents out and drops the rest.
    Clear(u8),
}

#[derive(Arbitrary, Debug)]
enum SlotStep {
    Hit,
    Update,
    Entry,
    Remove,
    SetLifetime(Life),
}

#[derive(Arbitrary, Debug)]
struct History {
    /// Whether all entries weigh one, as in most caches.
    plain: bool,
    budget: Option<Space>,
    time_to_live: Option<Amount>,
    time_to_idle: Option<Amount>,
    capacity_hint: u8,
    steps: Vec<Step>,
}

/// A look-up by predicate that is acted upon later.
struct Question {
    id: u8,
    /// The candidates and their keys, whose editions identify the entries.
    candidates: Vec<(Candidate, Key)>,
    stamp: Stamp,
    /// How many insertions of this short hash, and of any, there had been when it was asked.
    inserted_alike: u64,
    inserted: u64,
}

struct World {
    shard: Shard<Key, Value>,
    model: Model,
    purse: Purse,
    now: Nanos,
    /// The latest time passed to an advance.
    reached: Nanos,
    removed: Vec<Removed<Key, Value>>,
    editions: u32,
    witness: Rc<()>,
    slots: Vec<Slot>,
    questions: Vec<Question>,
    walk: Walk,
    /// How often the walk has met each entry that is there since it began, by the edition of its key.
    met: BTreeMap<u32, usize>,
    inserted_alike: HashMap<u32, u64>,
    /// Whether the budget was lowered below what is used.
    lowered: bool,
    plain: bool,
}

fn line(removed: &Removed<Key, Value>) -> Line {
    Line {
        id: removed.key.id,
        edition: removed.key.edition,
        value: removed.value.0,
        weight: removed.weight,
        cause: removed.cause,
    }
}

fn pair(entry: Option<(Key, Value)>) -> Option<(u32, u32)> {
    entry.map(|(key, value)| (key.edition, value.0))
}

impl World {
    fn new(history: &History) -> Self {
        let rules = Rules {
            budget: history.budget.map_or(Room::UNLIMITED, Space::room),
            time_to_live: history.time_to_live.map(|nanos| nanos.0),
            time_to_idle: history.time_to_idle.map(|nanos| nanos.0),
        };
        let shard = Shard::new(Config {
            budget: rules.budget,
            time_to_live: rules.time_to_live,
            time_to_idle: rules.time_to_idle,
            capacity_hint: history.capacity_hint.into(),
        });
        Self {
            shard,
            model: Model::new(rules),
            purse: Purse::default(),
            now: Nanos(0),
            reached: Nanos(0),
            removed: Vec::new(),
            editions: 0,
            witness: Rc::new(()),
            slots: Vec::new(),
            questions: Vec::new(),
            walk: Walk::new(),
            met: BTreeMap::new(),
            inserted_alike: HashMap::new(),
            lowered: false,
            plain: history.plain,
        }
    }

    fn weight(&self, amount: Amount) -> u32 {
        if self.plain { 1 } else { amount.weight() }
    }

    fn new_entry(&mut self, id: u8) -> (Key, Value) {
        self.editions += 1;
        (Key { id, edition: self.editions }, Value(self.editions, Rc::clone(&self.witness)))
    }

    /// Compares the result of storing `id` with that of the reference.
    fn stored(&mut self, id: u8, weight: u32, got: Insertion<Key, Value>, expected: Outcome) {
        let got = match got {
            Insertion::Inserted => {
                *self.inserted_alike.entry(hash(id) as u32).or_default() += 1;
                Outcome::Inserted
            }
            Insertion::Replaced => Outcome::Replaced,
            Insertion::Rejected => Outcome::Rejected,
            Insertion::Short { key, value, missing } => {
                let room = self.shard.budget().saturating_add(missing);
                assert!(Room { entries: 1, weight: weight.into() }.fits_in(room), "{missing:?} is not what is missing");
                Outcome::Short(key.edition, value.0, missing)
            }
        };
        assert_eq!(got, expected);
        if matches!(got, Outcome::Inserted | Outcome::Replaced) {
            assert!(self.shard.used().fits_in(self.shard.budget()));
            self.lowered = false;
        }
    }

    fn ask(&mut self, id: u8, can_tell: bool) {
        let finding = self.shard.find_by(hash(id), |key| match (can_tell, key.id == id) {
            (false, _) => Match::Ask,
            (true, true) => Match::Equal,
            (true, false) => Match::Different,
        });
        let (candidates, stamp) = match finding {
            Finding::Found(slot) => {
                assert_eq!(self.shard.key_at(slot).map(|key| key.id), Some(id));
                assert!(self.model.order.contains(&id));
                self.slots.push(slot);
                return;
            }
            Finding::Absent(stamp) => (Vec::new(), stamp),
            Finding::Undecided(undecided) => (undecided.candidates, undecided.stamp),
        };
        if can_tell {
            assert!(!self.model.order.contains(&id));
        }
        let with_key = |&candidate: &Candidate| {
            let slot = self.shard.slot_of(candidate).expect("nothing has happened yet");
            (candidate, *self.shard.key_at(slot).expect("it is live"))
        };
        let candidates: Vec<_> = candidates.iter().map(with_key).collect();
        let mut ids: Vec<u8> = candidates.iter().map(|(_, key)| key.id).collect();
        ids.sort_unstable();
        let alike = self.model.with_hash(hash(id));
        assert_eq!(ids, if can_tell { Vec::new() } else { alike });
        self.questions.push(Question {
            id,
            candidates,
            stamp,
            inserted_alike: self.inserted_alike.get(&(hash(id) as u32)).copied().unwrap_or(0),
            inserted: self.model.counters.inserted,
        });
    }

    fn answer(&mut self, which: u8, weight: u32, lifetime: Lifetime) {
        if self.questions.is_empty() {
            return;
        }
        let question = self.questions.swap_remove(usize::from(which) % self.questions.len());
        for &(candidate, key) in &question.candidates {
            let stored = self.model.contents().into_iter().find(|seen| seen.0 == key.id).map(|seen| seen.1);
            let slot = self.shard.slot_of(candidate);
            assert_eq!(slot.is_some(), stored == Some(key.edition), "a candidate is one entry and no other");
            if let Some(slot) = slot {
                assert_eq!(self.shard.key_at(slot).map(|key| key.edition), Some(key.edition));
                self.slots.push(slot);
            }
        }
        let Question { id, candidates, stamp, inserted_alike, inserted } = question;
        let equal = candidates.iter().find(|(_, key)| key.id == id);
        let (key, value) = self.new_entry(id);
        let (number, now) = (key.edition, self.now);
        let Self { shard, purse, removed, .. } = self;
        let got = match equal.map(|&(candidate, _)| shard.slot_of(candidate)) {
            Some(Some(slot)) => shard.replace_slot(slot, key, value, weight, lifetime, now, purse, removed),
            Some(None) => return,
            // No candidate was equal, and none is now unless something with this hash was inserted meanwhile.
            // In that case a real caller would ask again.
            None => match shard.find_by(hash(id), |_| Match::Ask) {
                Finding::Absent(again) | Finding::Undecided(Undecided { stamp: again, .. }) if again == stamp => {
                    Ok(shard.insert_absent(hash(id), key, value, weight, lifetime, now, purse, removed))
                }
                _ => Err(Changed { key, value }),
            },
        };
        let alike = self.inserted_alike.get(&(hash(id) as u32)).copied().unwrap_or(0);
        match got {
            Ok(got) => {
                if equal.is_none() {
                    assert_eq!(inserted_alike, alike, "an insertion of this hash went unnoticed");
                    assert!(!self.model.order.contains(&id), "two entries of one key");
                }
                let expected = self.model.insert(id, number, weight, lifetime, now.0);
                self.stored(id, weight, got, expected);
            }
            Err(changed) => {
                assert_eq!((changed.key.edition, changed.value.0), (number, number));
                assert!(equal.is_none() && inserted != self.model.counters.inserted, "refused without a reason");
            }
        }
    }

    /// Does something to whatever is in the slot now; the reference does the same by key.
    fn by_slot(&mut self, which: u8, step: &SlotStep) {
        if self.slots.is_empty() {
            return;
        }
        let slot = self.slots[usize::from(which) % self.slots.len()];
        let (now, id) = (self.now, self.shard.key_at(slot).map(|key| key.id));
        let Self { shard, model, removed, .. } = self;
        match step {
            SlotStep::Hit => {
                let got = shard.hit_slot(slot, now, removed, |value| value.0);
                assert_eq!(got, missed_unless(id, model, |id, model| model.get(id, now.0)));
            }
            SlotStep::Update => {
                let change = |value| value ^ 0x8000_0000;
                let got = shard.update_slot(slot, now, removed, |value| {
                    value.0 = change(value.0);
                    value.0
                });
                assert_eq!(got, missed_unless(id, model, |id, model| model.update(id, now.0, change)));
            }
            SlotStep::Entry => {
                let seen = shard.entry_at(slot, now).map(|e| (e.value.0, e.weight, e.deadline.map(|d| d.0)));
                assert_eq!(seen, id.and_then(|id| model.peek(id, now.0)));
            }
            SlotStep::Remove => {
                let got = shard.remove_slot(slot, now, removed);
                assert_eq!(pair(got), id.and_then(|id| model.remove(id, now.0)));
            }
            SlotStep::SetLifetime(life) => {
                let got = shard.set_lifetime_slot(slot, life.lifetime(), now, removed);
                assert_eq!(got, id.is_some_and(|id| model.set_lifetime(id, life.lifetime(), now.0)));
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let now = self.now;
        let Self { shard, model, removed, .. } = self;
        let key = |id: &Id| Key { id: id.0, edition: 0 };
        match step {
            Step::Get(id) => {
                let got = shard.get(hash(id.0), &key(id), now, removed, |value| value.0);
                assert_eq!(got, model.get(id.0, now.0));
            }
            Step::Peek(id) => {
                let entry = shard.entry(hash(id.0), &key(id), now);
                let seen = entry.map(|e| (e.value.0, e.weight, e.deadline.map(|d| d.0)));
                assert_eq!(seen, model.peek(id.0, now.0));
                assert_eq!(shard.peek(hash(id.0), &key(id), now).map(|value| value.0), seen.map(|seen| seen.0));
            }
            Step::Update(id) => {
                let change = |value| value ^ 0x4000_0000;
                let got = shard.update(hash(id.0), &key(id), now, removed, |value| {
                    value.0 = change(value.0);
                    value.0
                });
                assert_eq!(got, model.update(id.0, now.0, change));
            }
            Step::Batch(ids) => {
                let keys: Vec<Key> = ids.iter().map(key).collect();
                let hashes: Vec<u64> = ids.iter().map(|id| hash(id.0)).collect();
                let mut got = Vec::new();
                shard.get_batch(
                    &hashes,
                    |i| &keys[i],
                    now,
                    removed,
                    |i, value| {
                        assert_eq!(i, got.len());
                        got.push(value.map(|value| value.0));
                    },
                );
                assert_eq!(got, ids.iter().map(|id| model.get(id.0, now.0)).collect::<Vec<_>>());
            }
            Step::Insert(id, weight, life) => {
                let (id, weight, lifetime) = (id.0, self.weight(*weight), life.lifetime());
                let (key, value) = self.new_entry(id);
                let number = key.edition;
                let Self { shard, purse, removed, .. } = self;
                let got = shard.insert(hash(id), key, value, weight, lifetime, now, purse, removed);
                let expected = self.model.insert(id, number, weight, lifetime, now.0);
                self.stored(id, weight, got, expected);
            }
            Step::Reject(id, weight) => {
                let (key, value) = self.new_entry(id.0);
                self.model.reject(id.0, key.edition, weight.weight(), now.0);
                self.shard.reject(hash(id.0), key, value, weight.weight(), now, &mut self.removed);
            }
            Step::Remove(id) => {
                let got = shard.remove(hash(id.0), &key(id), now, removed);
                assert_eq!(pair(got), model.remove(id.0, now.0));
            }
            Step::RemoveLru => assert_eq!(pair(shard.remove_lru(now, removed)), model.remove_lru(now.0)),
            Step::SetLifetime(id, life) => {
                let got = shard.set_lifetime(hash(id.0), &key(id), life.lifetime(), now, removed);
                assert_eq!(got, model.set_lifetime(id.0, life.lifetime(), now.0));
            }
            Step::Ask(id, can_tell) => self.ask(id.0, *can_tell),
            Step::Answer(which, weight, life) => self.answer(*which, self.weight(*weight), life.lifetime()),
            Step::BySlot(which, step) => self.by_slot(*which, step),
            Step::Visit(most) => self.walk_on(*most, None),
            Step::RetainSome(most, unwanted) => self.walk_on(*most, Some(*unwanted)),
            Step::Pass(span) => self.now = now.after(span.0),
            Step::Back(span) => self.now = Nanos(now.0.saturating_sub((*span).into())),
            Step::Advance(budget) => self.advance((*budget).into()),
            Step::SetBudget(space) => {
                shard.set_budget(space.room());
                model.rules.budget = space.room();
                self.lowered = !shard.used().fits_in(space.room());
            }
            Step::TakeSurplus => assert_eq!(shard.take_surplus(), model.take_surplus()),
            Step::Evict(space) => assert_eq!(shard.evict(space.room(), removed), model.evict(space.room())),
            Step::Enforce(max) => {
                assert_eq!(shard.enforce_budget((*max).into(), removed), model.enforce((*max).into()));
            }
            Step::Donate(space) => (self.purse, model.purse) = (Purse(space.room()), Purse(space.room())),
            Step::Clear(taken) => {
                let mut contents = shard.clear();
                assert_eq!((contents.len(), contents.weight()), (model.order.len(), model.used().weight));
                model.clear();
                removed.extend(contents.by_ref().take((*taken).into()));
                model.out.truncate((*taken).into());
            }
        }
        self.compare();
    }

    /// Walks on. The order of a walk is not specified, so the entries that left are compared as a set.
    fn walk_on(&mut self, most: u8, unwanted: Option<u8>) {
        let Self { shard, model, removed, walk, met, now, .. } = self;
        if *walk == Walk::new() {
            *met = shard.entries().map(|entry| (entry.key.edition, 0)).collect();
        }
        let mut see = |entry: EntryRef<'_, Key, Value>| {
            met.entry(entry.key.edition).and_modify(|times| *times += 1);
            entry.value.0 & u32::from(unwanted.unwrap_or(0)) == 0
        };
        if unwanted.is_some() {
            let count = shard.retain_some(walk, most.into(), *now, see, removed);
            assert_eq!(count, removed.iter().filter(|removed| removed.cause == RemovalCause::Explicit).count());
        } else {
            shard.visit(walk, most.into(), |_, entry| assert!(see(entry)));
        }
        for removed in removed {
            if removed.cause == RemovalCause::Expired {
                model.expire(removed.key.id, now.0);
            } else {
                assert_eq!(model.remove(removed.key.id, now.0), Some((removed.key.edition, removed.value.0)));
                model.out.push(line(removed));
            }
        }
        assert!(met.values().all(|&times| times <= 1), "an entry was met twice");
        if walk.is_over() {
            assert!(shard.entries().all(|entry| met.get(&entry.key.edition) != Some(&0)), "an entry was not met");
            *walk = Walk::new();
        }
    }

    /// Advances both. Which of the due entries go first is not specified, so they are compared as a set.
    fn advance(&mut self, budget: usize) {
        let progress = self.shard.advance(self.now, budget, &mut self.removed);
        self.reached = self.reached.max(self.now);
        assert_eq!(progress.expired, self.removed.len());
        assert!(progress.expired <= budget);
        for removed in &self.removed {
            self.model.expire(removed.key.id, self.reached.0);
        }
        if !progress.more {
            assert_eq!(self.model.first_deadline().filter(|&deadline| deadline <= self.now.0), None);
        }
    }

    fn compare(&mut self) {
        self.shard.validate();
        assert_eq!(self.removed.iter().map(line).collect::<Vec<_>>(), self.model.out);
        let here = self.shard.len() + self.removed.len();
        assert_eq!(Rc::strong_count(&self.witness) - 1, here, "an entry was lost or doubled");
        self.removed.clear();
        self.model.out.clear();

        let entries = self.shard.iter();
        let order: Vec<_> =
            entries.map(|e| (e.key.id, e.key.edition, e.value.0, e.weight, e.deadline.map(|d| d.0))).collect();
        assert_eq!(order, self.model.contents());
        assert_eq!((self.shard.used(), self.shard.budget()), (self.model.used(), self.model.rules.budget));
        assert_eq!(self.purse, self.model.purse);
        assert_eq!(self.shard.counters(), self.model.counters);
        assert!(self.lowered || self.shard.used().fits_in(self.shard.budget()), "above the budget");
        let first = self.model.first_deadline();
        assert_eq!(self.shard.has_deadlines(), first.is_some());
        assert!(self.shard.next_deadline().map(|next| next.0) <= first);
    }
}

/// Applies `look` to the entry in a slot; a slot without an entry counts as a miss.
fn missed_unless(id: Option<u8>, model: &mut Model, look: impl FnOnce(u8, &mut Model) -> Option<u32>) -> Option<u32> {
    match id {
        Some(id) => look(id, model),
        None => {
            model.counters.misses += 1;
            None
        }
    }
}

fuzz_target!(|history: History| {
    let mut world = World::new(&history);
    for step in &history.steps {
        world.step(step);
    }
    let World { shard, witness, .. } = world;
    drop(shard);
    assert_eq!(Rc::strong_count(&witness), 1, "a value outlived the shard");
});
