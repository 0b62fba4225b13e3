//! The native module of the Python package `sark_cache`: what has to be fast.
//!
//! `string_cache` is the engine's plain string cache. `arguments` turns what Python passes into what the engine takes, and
//! everything that can be wrong with it into an exception that names it.

mod arguments;
mod policy;
mod stats;
mod string_cache;

use pyo3::prelude::*;

/// The native part of `sark_cache`.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::policy::PolicyFront;
    #[pymodule_export]
    use crate::stats::Stats;
    #[pymodule_export]
    use crate::string_cache::RustCache;
}
