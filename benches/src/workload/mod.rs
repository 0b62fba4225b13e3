//! What the caches are asked: seeded key sequences, an authorization gateway's requests, and the threads that
//! send them.
//!
//! All requests are made before a clock starts, and are the same for every contestant and every run.

pub mod gateway;
pub mod keys;
pub mod threads;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

/// Creates a generator whose sequence is part of its specification, so that a seed still means the same keys
/// in years to come.
pub fn generator(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}
