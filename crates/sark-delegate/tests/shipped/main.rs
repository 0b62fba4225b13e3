//! The shipped build, theme by theme; most sentences hold under both dispatches and are tested under both.
//!
//! What every interleaving does is the model checker's business (`tests/loom.rs`), what the hardware does that of
//! `tests/litmus.rs`, and forks have a process of their own (`tests/fork.rs`).
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
