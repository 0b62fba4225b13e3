//! `percore`: the cost of asking a shard by message if the shard has its own thread, for each way of asking.
//!
//! The worker sits on the last processor and the caller on the first, so every request crosses between them.
//! Two things are measured alongside: the same work on a bare shard that the caller runs itself, which is the
//! part of the cost that messages come on top of, and a cache line sent to the other processor and back,
//! which is the least a round trip can take.

use std::collections::VecDeque;
use std::future::Future;
use std::hint::{black_box, spin_loop};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::Result;
use core_affinity::CoreId;
use sark_delegate::{Config as DelegateConfig, Delegates, Dispatch, Resident, Submission, Transport};
use sark_shard::{Config, Lifetime, Nanos, NoPool, Removed, Shard};

use super::{FEW_ROUNDS, Settings, window};
use crate::case::{Case, choose};
use crate::contestants::{Hasher, Name, hasher};
use crate::measure::{Effort, Entrant, Fields, Lap, Run, interleave};
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::keys::{Distribution, sequence, shuffled};
use crate::workload::threads::together;

/// The scenario's name.
pub const NAME: &str = "percore";
/// The name of the rows in which requests that wait go through slots, instead of the channel alone.
pub const SLOTS: &str = "sark-cache-percore-slots";
/// The name of the rows for the same work on a shard that the caller runs itself.
pub const BARE: &str = "bare-shard";
/// The name of the rows for a cache line sent back and forth.
pub const PING_PONG: &str = "ping-pong";
const KEYS: [u32; 2] = [10_000, 1_000_000];
const FULL_RUN: (u64, Duration) = (1 << 20, Duration::from_secs(2));

/// The number of requests in flight, and of keys in a message.
const WINDOW: usize = 32;
const BATCH: usize = 64;

/// The ways of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// One look-up at a time, waiting for each.
    Sync,
    /// Look-ups with up to [`WINDOW`] in flight.
    Windowed,
    /// Look-ups of [`BATCH`] keys in one message.
    Batched,
    /// Insertions that are not waited for individually; a request at the end waits for all of them.
    Posted,
    /// The same with [`BATCH`] entries in one message.
    PostedBatches,
}

impl Asked {
    const ALL: [Self; 5] = [Self::Sync, Self::Windowed, Self::Batched, Self::Posted, Self::PostedBatches];

    fn words(self, keys: u32) -> Case {
        let case = Case::new().with("keys", keys);
        match self {
            Self::Sync => case.with("op", "get"),
            Self::Windowed => case.with("op", "get").with("window", WINDOW),
            Self::Batched => case.with("op", "get").with("batch", BATCH),
            Self::Posted => case.with("op", "post-insert"),
            Self::PostedBatches => case.with("op", "post-insert").with("batch", BATCH),
        }
    }
}

/// A shard with everything that an operation on it needs.
struct Owned {
    shard: Shard<u64, u64>,
    removed: Vec<Removed<u64, u64>>,
}

impl Owned {
    fn of(keys: u32, hasher: &Hasher) -> Self {
        let shard = Shard::new(Config { capacity_hint: keys as usize, ..Config::default() });
        let mut owned = Self { shard, removed: Vec::new() };
        for key in shuffled(keys, 1) {
            owned.insert(hasher.hash_one(u64::from(key)), key.into());
        }
        owned
    }

    #[inline]
    fn get(&mut self, hash: u64, key: u64) -> Option<u64> {
        self.shard.get(hash, &key, Nanos(0), &mut self.removed, |value| *value)
    }

    #[inline]
    fn insert(&mut self, hash: u64, key: u64) {
        // The shard has no limit, so the entry is always stored.
        let _ = self.shard.insert(hash, key, key, 1, Lifetime::Default, Nanos(0), &mut NoPool, &mut self.removed);
        self.removed.clear();
    }

    fn get_batch(&mut self, hashes: &[u64], keys: &[u64]) -> u64 {
        let mut hits = 0;
        self.shard.get_batch(
            hashes,
            |index| &keys[index],
            Nanos(0),
            &mut self.removed,
            |_, value| {
                hits += u64::from(black_box(value).is_some());
            },
        );
        hits
    }
}

/// Entries to be stored, with their hashes.
enum Post {
    One(u64, u64),
    Many(Vec<(u64, u64)>),
}

impl Resident for Owned {
    type Post = Post;
    type Leftovers = ();

    fn accept(&mut self, post: Post, (): &mut ()) {
        match post {
            Post::One(hash, key) => self.insert(hash, key),
            Post::Many(entries) => entries.into_iter().for_each(|(hash, key)| self.insert(hash, key)),
        }
    }
}

/// One shard behind a worker on the last processor.
struct ByMessage {
    delegates: Delegates<Owned>,
    hasher: Hasher,
    keys: Vec<u64>,
    asked: Asked,
    caller: Option<CoreId>,
}

/// The same shard, run by the caller.
struct Bare {
    owned: Owned,
    hasher: Hasher,
    keys: Vec<u64>,
    asked: Asked,
    caller: Option<CoreId>,
}

/// Returns the first and the last processor this process may use.
fn seats() -> (Option<CoreId>, Option<CoreId>) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    (cores.first().copied(), cores.last().copied())
}

fn sit(seat: Option<CoreId>) {
    if let Some(core) = seat {
        core_affinity::set_for_current(core);
    }
}

/// Returns the fields that say what a request goes through, and on which processors.
fn row_fields(through: &str, worker: bool) -> Fields {
    let (caller, last) = seats();
    let mut fields = Fields::new();
    fields.insert("through".into(), through.into());
    fields.insert("caller_on_cpu".into(), caller.map(|core| core.id).into());
    if worker {
        fields.insert("worker_on_cpu".into(), last.map(|core| core.id).into());
    }
    fields
}

impl ByMessage {
    fn ask(&self, keys: &[u64]) -> u64 {
        let hash = |key: &u64| self.hasher.hash_one(*key);
        let delegates = &self.delegates;
        match self.asked {
            Asked::Sync => keys
                .iter()
                .map(|key| {
                    let hash = hash(key);
                    u64::from(delegates.run(0, move |owned| owned.get(hash, *key)).is_some())
                })
                .sum(),
            Asked::Windowed => {
                let mut flying: VecDeque<Submission<'_, Owned, Option<u64>>> = VecDeque::with_capacity(WINDOW);
                let mut hits = 0;
                for &key in keys {
                    if flying.len() == WINDOW
                        && let Some(oldest) = flying.pop_front()
                    {
                        hits += u64::from(finish(oldest).is_some());
                    }
                    let hash = hash(&key);
                    flying.push_back(delegates.submit(0, move |owned: &mut Owned| owned.get(hash, key)));
                }
                hits + flying.into_iter().map(|last| u64::from(finish(last).is_some())).sum::<u64>()
            }
            Asked::Batched => keys
                .chunks(BATCH)
                .map(|batch| {
                    let hashes: Vec<u64> = batch.iter().map(hash).collect();
                    delegates.run(0, |owned| owned.get_batch(&hashes, batch))
                })
                .sum(),
            Asked::Posted => {
                keys.iter().for_each(|key| delegates.post(0, Post::One(hash(key), *key)));
                delegates.run(0, |owned| owned.shard.len() as u64)
            }
            Asked::PostedBatches => {
                for batch in keys.chunks(BATCH) {
                    delegates.post(0, Post::Many(batch.iter().map(|key| (hash(key), *key)).collect()));
                }
                delegates.run(0, |owned| owned.shard.len() as u64)
            }
        }
    }
}

/// Polls a future until it is ready.
fn finish<F: Future>(submission: F) -> F::Output {
    let mut submission = pin!(submission);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match submission.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

impl Bare {
    fn ask(&mut self, keys: &[u64]) -> u64 {
        let Self { owned, hasher, asked, .. } = self;
        match asked {
            Asked::Sync | Asked::Windowed => {
                keys.iter().map(|key| u64::from(black_box(owned.get(hasher.hash_one(*key), *key)).is_some())).sum()
            }
            Asked::Batched => keys
                .chunks(BATCH)
                .map(|batch| {
                    let hashes: Vec<u64> = batch.iter().map(|key| hasher.hash_one(*key)).collect();
                    owned.get_batch(&hashes, batch)
                })
                .sum(),
            Asked::Posted | Asked::PostedBatches => {
                keys.iter().for_each(|key| owned.insert(hasher.hash_one(*key), *key));
                owned.shard.len() as u64
            }
        }
    }
}

fn lap(asked: Asked, (elapsed, hits): (Duration, u64), operations: u64) -> Lap {
    match asked {
        Asked::Posted | Asked::PostedBatches => Lap { elapsed, operations, gets: 0, hits: 0 },
        _ => Lap { elapsed, operations, gets: operations, hits },
    }
}

impl Run for ByMessage {
    fn run(&mut self, number: u32, operations: u64) -> Lap {
        let keys = &self.keys[window(number, operations, self.keys.len())];
        let (elapsed, hits) = together(1, &|_| {
            sit(self.caller);
            timed(|| self.ask(keys))
        })
        .1
        .pop()
        .unwrap_or_default();
        lap(self.asked, (elapsed, hits), keys.len() as u64)
    }

    fn finish(&mut self) -> Fields {
        row_fields("sark-delegate to one shard, no cache around it", true)
    }
}

impl Run for Bare {
    fn run(&mut self, number: u32, operations: u64) -> Lap {
        let range = window(number, operations, self.keys.len());
        let keys = self.keys[range].to_vec();
        let asked = self.asked;
        let caller = self.caller;
        // Runs on a load thread, as `ByMessage` does, so that both are pinned alike.
        let this = parking_lot::Mutex::new(self);
        let mut ran = together(1, &|_| {
            sit(caller);
            let mut this = this.lock();
            timed(|| this.ask(&keys))
        })
        .1;
        lap(asked, ran.pop().unwrap_or_default(), keys.len() as u64)
    }

    fn finish(&mut self) -> Fields {
        row_fields("a call to the caller's own shard", false)
    }
}

fn timed(work: impl FnOnce() -> u64) -> (Duration, u64) {
    let begun = std::time::Instant::now();
    let result = work();
    (begun.elapsed(), result)
}

/// A line of memory that two processors pass back and forth.
struct PingPong;

#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

impl Run for PingPong {
    fn run(&mut self, _: u32, operations: u64) -> Lap {
        let (there, back) = (Line::default(), Line::default());
        let (first, last) = seats();
        let wait = |line: &Line, number: u64| {
            let mut spins = 0_u32;
            while line.0.load(Ordering::Acquire) != number {
                spins += 1;
                // If there is only one processor, or the other one was taken away, spinning on would achieve
                // nothing.
                if spins.is_multiple_of(1 << 14) {
                    std::thread::yield_now();
                }
                spin_loop();
            }
        };
        let (_, times) = together(2, &|side| {
            sit(if side == 0 { first } else { last });
            timed(|| {
                for number in 1..=operations {
                    if side == 0 {
                        there.0.store(number, Ordering::Release);
                        wait(&back, number);
                    } else {
                        wait(&there, number);
                        back.0.store(number, Ordering::Release);
                    }
                }
                operations
            })
            .0
        });
        Lap { elapsed: times.into_iter().next().unwrap_or_default(), operations, gets: 0, hits: 0 }
    }

    fn finish(&mut self) -> Fields {
        row_fields("two words of memory, and nothing else", true)
    }
}

/// Runs the scenario.
///
/// # Errors
/// If no case is wanted, or the system can't start a worker.
pub fn run(settings: &Settings) -> Result<Report> {
    let all = KEYS.into_iter().flat_map(|keys| Asked::ALL.map(|asked| (keys, asked))).collect();
    let cases = choose(all, &settings.wishes, |(keys, asked)| asked.words(*keys))?;
    let effort = settings.effort(FULL_RUN, settings.rounds(FEW_ROUNDS));
    let mut report = Report::new(NAME, effort.rounds, &[Name::SarkPerCore]);
    let mut progress = Progress::new(cases.len() as u64 * 4 * u64::from(effort.rounds));
    for (count, asked) in cases {
        let words = asked.words(count);
        progress.begin(format!("{NAME} {words}"));
        let mut entrants = entrants(count, asked, &effort)?;
        entrants.iter_mut().for_each(|entrant| entrant.calibrate(&effort));
        interleave(&mut entrants, effort.rounds, |name| progress.step(name));
        report.take(&words, entrants, &effort);
    }
    progress.end();
    Ok(report)
}

/// Says what messages cost, as multiples of what they can be compared with.
pub fn verdicts(report: &Report) -> Vec<String> {
    let time = |keys: u32, asked: Asked, contestant: &str| {
        let case = asked.words(keys).to_string();
        let row = report.rows.iter().find(|row| row.case == case && row.contestant == contestant)?;
        Some(row.ns_per_op?.median)
    };
    let ours = Name::SarkPerCore.as_str();
    let sentence = |keys: u32| {
        let over = |asked, other: &str| Some(time(keys, asked, ours)? / time(keys, asked, other)?);
        Some(format!(
            "With {keys} keys, a request whose caller waits takes {:.1} times as long as a cache line to the \
             other processor and back. With {WINDOW} requests in flight, the rate is {:.1} times as high. A key \
             in a batch of {BATCH} takes {:.1} times as long as on a bare shard. An insertion that is not waited \
             for takes {:.0} ns, or {:.0} ns in batches of {BATCH}.",
            over(Asked::Sync, PING_PONG)?,
            time(keys, Asked::Sync, ours)? / time(keys, Asked::Windowed, ours)?,
            over(Asked::Batched, BARE)?,
            time(keys, Asked::Posted, ours)?,
            time(keys, Asked::PostedBatches, ours)?,
        ))
    };
    let through_slots = |keys: u32| {
        let over = |asked, other: &str| Some(time(keys, asked, SLOTS)? / time(keys, asked, other)?);
        Some(format!(
            "With {keys} keys and slots for requests whose callers wait ({SLOTS}), a request takes {:.1} times as \
             long as a cache line, and a key in a batch {:.1} times as long as on a bare shard.",
            over(Asked::Sync, PING_PONG)?,
            over(Asked::Batched, BARE)?,
        ))
    };
    let (caller, worker) = seats();
    let mut sentences: Vec<String> =
        KEYS.into_iter().flat_map(|keys| [sentence(keys), through_slots(keys)]).flatten().collect();
    if let (Some(caller), Some(worker)) = (caller, worker) {
        let (caller, worker) = (caller.id, worker.id);
        sentences.push(format!(
            "{ours} is one shard behind sark-delegate here, without the cache around it. Its worker runs on CPU \
             {worker}, and the caller on CPU {caller}."
        ));
    }
    sentences
}

fn entrants(count: u32, asked: Asked, effort: &Effort) -> Result<Vec<Entrant>> {
    let keys = sequence(Distribution::Uniform, count, effort.operations as usize, 2);
    let keys: Vec<u64> = keys.into_iter().map(u64::from).collect();
    let hasher = hasher();
    let (caller, last) = seats();
    let by_message = |transport| -> Result<Box<dyn Run>> {
        let config = DelegateConfig { dispatch: Dispatch::PerCore, pin: false, transport, ..DelegateConfig::default() };
        let delegates = Delegates::new(config, [Owned::of(count, &hasher)])?;
        // Pinned by the delegates, the first worker would sit on the first processor, where the caller is to
        // be. Instead the first request, which runs on the worker, moves it.
        delegates.run(0, move |_| sit(last));
        Ok(Box::new(ByMessage { delegates, hasher: hasher.clone(), keys: keys.clone(), asked, caller }))
    };
    let bare = || -> Result<Box<dyn Run>> {
        let owned = Owned::of(count, &hasher);
        Ok(Box::new(Bare { owned, hasher: hasher.clone(), keys: keys.clone(), asked, caller }))
    };
    let ours = Entrant::called(Name::SarkPerCore.as_str(), true, effort.operations, || by_message(Transport::Channel))?;
    let slots = Entrant::called(SLOTS, false, effort.operations, || by_message(Transport::Slots))?;
    let bare = Entrant::called(BARE, false, effort.operations, bare)?;
    let ping_pong = || -> Result<Box<dyn Run>> { Ok(Box::new(PingPong)) };
    Ok(vec![ours, slots, bare, Entrant::called(PING_PONG, false, effort.operations, ping_pong)?])
}
