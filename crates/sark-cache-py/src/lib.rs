//! The native module of the Python package `sark_cache`: the parts that have to be fast.
//!
//! `cache` stores Python objects under the rule of `ownership`. Everything rests on that rule, so read that
//! module first. `cached` is a function whose results are kept in a cache. `key` and `builtins` establish
//! what can be known about keys without running Python code. `object` is a reference to a Python object,
//! `calls` is how Python calls the hot methods, and `user_code` is how this module calls Python code.
//! `string_cache` is the engine's plain string cache. `arguments` converts what Python passes into what the
//! engine takes, and reports invalid arguments as exceptions that name them. `policy` looks decisions up.
//!
//! Unsafe code is confined to `ownership`, `object`, `builtins`, `calls` and `user_code`.

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
