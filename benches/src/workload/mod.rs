//! What the caches are asked: seeded key sequences, an authorization gateway's requests, and the threads that ask.
//!
//! Everything here is made before a clock starts, and is the same for every contestant and every run.

pub mod gateway;
pub mod keys;
pub mod threads;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

/// A generator whose sequence is part of its specification, so that a seed means the same keys in years to come.
pub fn generator(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}
