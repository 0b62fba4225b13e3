//! `sark-bench`: measures sark-cache alongside the caches its users would otherwise pick.
//!
//! How a figure comes about: a [`scenarios`] module says what is done with a cache, [`contestants`] are the
//! caches, and [`workload`] and [`trace`] supply the requests. [`measure`] runs the contestants in turn and
//! compares them round by round. [`report`], [`summary`], [`table`] and [`page`] present the results.
//!
//! The rules that keep the figures honest live in `measure` (interleaved rounds, ratios within a round, fewer
//! operations for slow contestants) and in `workload` (everything is made beforehand).

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
