//! The shipped build, theme by theme. Most statements hold under both dispatches and are tested under both.
//!
//! The model checker explores every interleaving (`tests/loom.rs`), `tests/litmus.rs` tests what the hardware
//! does, and forks have a process to themselves (`tests/fork.rs`).
#![cfg(not(loom))]

#[macro_use]
mod common;

mod alarms;
mod counts;
mod ending;
mod entered;
mod full;
mod order;
mod panics;
mod putting_off;
mod reentrancy;
mod results;
mod threads;
