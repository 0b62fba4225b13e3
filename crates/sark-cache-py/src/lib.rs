//! The native module of the Python package `sark_cache`: what has to be fast.
//!
//! `cache` keeps Python objects, under the rule of `ownership`, on which everything rests: read that first. `cached` is
//! a function whose results are in one. `key` and `builtins` say what can be known of keys without running Python,
//! `object` is a reference to one, `calls` is how Python calls the hot methods, `user_code` how Python code is called
//! from here. `string_cache` is the engine's plain string cache. `arguments` turns what Python passes into what the
//! engine takes, and everything that can be wrong with it into an exception that names it. `policy` looks decisions up.
//!
//! Unsafe code is in `ownership`, `object`, `builtins`, `calls` and `user_code` alone.

mod arguments;
mod builtins;
mod cache;
mod cached;
mod calls;
mod key;
mod object;
mod ownership;
mod policy;
mod stats;
mod string_cache;
mod user_code;

use pyo3::prelude::*;

/// The native part of `sark_cache`.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::cache::Cache;
    #[pymodule_export]
    use crate::cached::CachedFunction;
    #[pymodule_export]
    use crate::policy::PolicyFront;
    #[pymodule_export]
    use crate::stats::Stats;
    #[pymodule_export]
    use crate::string_cache::RustCache;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::cache::install(&module.py().get_type::<Cache>())?;
        crate::cached::install(module.py())?;
        crate::string_cache::install(&module.py().get_type::<RustCache>())
    }
}
