//! `sark-bench`: what sark-cache does, beside the caches its users would otherwise pick.
//!
//! The way of a figure: a [`scenarios`] module says what is done with a cache, [`contestants`] are the caches,
//! [`workload`] and [`trace`] the requests, [`measure`] runs all in turn and compares them round by round, and
//! [`report`], [`summary`], [`table`] and [`page`] say what came out. The rules that make the figures honest are kept in `measure` (interleaved
//! rounds, ratios within a round, fewer operations for the slow ones) and in `workload` (everything made beforehand).

pub mod allocation;
pub mod amount;
pub mod case;
pub mod cli;
pub mod contestants;
pub mod machine;
pub mod measure;
pub mod page;
pub mod page_place;
pub mod percentiles;
pub mod plots;
pub mod progress;
pub mod report;
pub mod scenarios;
pub mod summary;
pub mod table;
pub mod trace;
pub mod workload;
