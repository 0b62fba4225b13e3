//! `CachedFunction`: what `@cached` turns a function into.
//!
//! A hit is served here without any Python code: the key is made from the arguments and looked up, and the
//! value is returned. On a miss it calls `fill`, a Python function that computes the value while other
//! callers wait (`sark_cache._decorator`).

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use smallvec::SmallVec;

use crate::builtins;
use crate::cache::Cache;
use crate::calls::{self, Arguments, Named, Vectorcall, method, vectorcall};
use crate::key::Sought;
use crate::object::Object;
use crate::user_code;

/// A function whose results are kept. Made by `cached`.
#[pyclass(frozen, dict, weakref, module = "sark_cache._core")]
pub(crate) struct CachedFunction {
    /// How Python calls an instance; see `calls`.
    vectorcall: Vectorcall,
    cache: Py<Cache>,
    /// Computes and keeps what isn't there, called as `fill(key, args, kwargs)`.
    fill: Py<PyAny>,
    /// Makes sure that what is being computed now is not kept.
    forget: Py<PyAny>,
    /// The caller's own function that makes keys.
    key: Option<Py<PyAny>>,
    /// Whether 1 and 1.0 are different arguments.
    typed: bool,
    /// Whether the cache has other users, so that keys must tell which function they belong to.
    shared: bool,
}

#[pymethods]
impl CachedFunction {
    #[new]
    #[pyo3(signature = (cache, fill, forget, key, typed, shared))]
    fn new(
        cache: Bound<'_, Cache>,
        fill: Py<PyAny>,
        forget: Py<PyAny>,
        key: Option<Py<PyAny>>,
        typed: bool,
        shared: bool,
    ) -> Self {
        Self { vectorcall: Vectorcall::new(raw_call), cache: cache.unbind(), fill, forget, key, typed, shared }
    }

    /// Returns the key of a call with these arguments.
    #[pyo3(signature = (*args, **kwargs))]
    fn cache_key<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().make_key(slf, args.as_slice(), &by_name(kwargs)?)
    }

    /// Serves `function.__call__`. Calls of the function itself come in through `vectorcall`.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let key = this.make_key(slf, args.as_slice(), &by_name(kwargs)?)?;
        match this.cache.get().store()?.get(&Sought::new(key.as_borrowed())?)? {
            Some(value) => Ok(value.into_bound(slf.py())),
            None => {
                let kwargs = kwargs.map_or_else(|| PyDict::new(slf.py()), Bound::clone);
                user_code::call(this.fill.bind(slf.py()), [&key, args, &kwargs])
            }
        }
    }

    /// Removes everything from the cache. What is being computed now won't be kept.
    fn cache_clear(&self, py: Python<'_>) -> PyResult<()> {
        user_code::call(self.forget.bind(py), [])?;
        self.cache.get().store()?.clear(py)
    }

    /// The cache in which results are kept.
    #[getter]
    fn cache<'py>(&self, py: Python<'py>) -> &Bound<'py, Cache> {
        self.cache.bind(py)
    }

    /// Binds to an instance on look-up, as a function does.
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static METHOD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        if instance.is_none() {
            return Ok(slf.clone().into_any());
        }
        METHOD.import(slf.py(), "types", "MethodType")?.call1((slf, instance))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(format!("<cached function {}>", slf.getattr("__qualname__")?))
    }

    /// Pickles by name, as functions do.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.getattr("__qualname__")
    }

    fn __copy__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    fn __deepcopy__<'py>(slf: &Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf.clone()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cache)?;
        visit.call(&self.fill)?;
        visit.call(&self.forget)?;
        visit.call(&self.key)
    }
}

fn by_name<'py>(kwargs: Option<&Bound<'py, PyDict>>) -> PyResult<Named<'py>> {
    let kwargs = kwargs.into_iter().flatten();
    kwargs.map(|(name, value)| Ok((name.cast_into::<PyString>()?, value))).collect()
}

impl CachedFunction {
    /// Makes the key of a call. A lone argument of a simple builtin type is its own key. Otherwise the key is
    /// a tuple of
    ///
    /// * this function, if the cache has other users;
    /// * the positional arguments;
    /// * if there are keyword arguments: the class of cached functions, which is never passed by chance, then
    ///   names and values, sorted;
    /// * if `typed`: the type of each argument.
    ///
    /// A lone argument can't be mistaken for such a tuple, since tuples are not among those types.
    fn make_key<'py>(
        &self,
        slf: &Bound<'py, Self>,
        args: &[Bound<'py, PyAny>],
        named: &[(Bound<'py, PyString>, Bound<'py, PyAny>)],
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if let Some(key) = &self.key {
            let kwargs = named.iter().cloned().into_py_dict(py)?;
            return user_code::call_with(key.bind(py), &PyTuple::new(py, args)?, &kwargs);
        }
        if let ([argument], []) = (args, named)
            && self.keys_are_arguments()
            && builtins::is_simple(argument.as_borrowed())
        {
            return Ok(argument.clone());
        }
        if named.is_empty() && self.keys_are_arguments() {
            return Ok(PyTuple::new(py, args)?.into_any());
        }
        let mut parts: SmallVec<[Bound<'py, PyAny>; 8]> = SmallVec::new();
        if self.shared {
            parts.push(slf.clone().into_any());
        }
        parts.extend(args.iter().cloned());
        if !named.is_empty() {
            parts.push(slf.get_type().into_any());
            let mut sorted = named.iter().map(|pair| Ok((pair.0.to_str()?, pair))).collect::<PyResult<Vec<_>>>()?;
            sorted.sort_unstable_by_key(|(name, _)| *name);
            parts.extend(sorted.iter().flat_map(|(_, (name, value))| [name.clone().into_any(), value.clone()]));
        }
        if self.typed {
            let values = args.iter().chain(named.iter().map(|(_, value)| value));
            let types: SmallVec<[_; 8]> = values.map(|value| value.get_type().into_any()).collect();
            parts.extend(types);
        }
        Ok(PyTuple::new(py, parts)?.into_any())
    }

    /// Whether keys are made from the arguments alone, so that a lone simple argument may be its own key.
    #[inline]
    fn keys_are_arguments(&self) -> bool {
        !self.shared && !self.typed && self.key.is_none()
    }
}

#[inline]
fn call(slf: Borrowed<'_, '_, CachedFunction>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let this = slf.get();
    if this.keys_are_arguments()
        && let Some(argument) = arguments.alone()
        && builtins::is_simple(argument.as_borrowed())
    {
        return match this.cache.get().store()?.get(&Sought::new(argument.as_borrowed())?)? {
            Some(value) => Ok(value),
            None => this.compute(argument, arguments),
        };
    }
    call_with_any(&slf, arguments)
}
vectorcall!(raw_call, CachedFunction, call);

/// Handles calls with any arguments.
fn call_with_any(slf: &Bound<'_, CachedFunction>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let this = slf.get();
    let key = this.make_key(slf, arguments.by_position(), &arguments.by_name()?)?;
    match this.cache.get().store()?.get(&Sought::new(key.as_borrowed())?)? {
        Some(value) => Ok(value),
        None => this.compute(&key, arguments),
    }
}

/// Looks a result up for coroutine functions, whose results can't be computed here. The first argument is
/// passed apart from the others, or as `absent` if there is none, so that a call with one argument needs no
/// tuple.
fn find(slf: Borrowed<'_, '_, CachedFunction>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
    let [Some(first), Some(others), Some(kwargs), Some(absent)] =
        arguments.parse("find", &["first", "others", "kwargs", "absent"], 4)?
    else {
        unreachable!("they are required")
    };
    let (others, kwargs) = (others.cast::<PyTuple>()?, kwargs.cast::<PyDict>()?);
    let this = slf.get();
    let look = |key: Borrowed<'_, '_, PyAny>| this.cache.get().store()?.get(&Sought::new(key)?);
    let value = if this.keys_are_arguments()
        && others.is_empty()
        && kwargs.is_empty()
        && !first.is(absent)
        && builtins::is_simple(first)
    {
        look(first)?
    } else {
        let first = (!first.is(absent)).then(|| Bound::clone(&first));
        let args: SmallVec<[_; 8]> = first.into_iter().chain(others.iter()).collect();
        look(this.make_key(&slf, &args, &by_name(Some(&kwargs))?)?.as_borrowed())?
    };
    Ok(value.unwrap_or_else(|| Object::new(absent)))
}
method!(raw_find, CachedFunction, find);

impl CachedFunction {
    /// After a miss: `fill` computes and keeps the value, or waits for the caller that computes it.
    #[cold]
    fn compute(&self, key: &Bound<'_, PyAny>, arguments: Arguments<'_, '_>) -> PyResult<Object> {
        let py = key.py();
        let args = PyTuple::new(py, arguments.by_position())?;
        let kwargs = arguments.by_name()?.into_py_dict(py)?;
        Ok(Object::from(user_code::call(self.fill.bind(py), [key, &args, &kwargs])?))
    }
}

/// Lets Python call instances without building a tuple, and methods without creating a bound method.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let nothing = || py.None();
    let cache = Bound::new(py, Cache::uninitialised())?;
    let sample = Bound::new(py, CachedFunction::new(cache, nothing(), nothing(), None, false, false))?;
    calls::make_callable(&sample, |this| &this.vectorcall)?;
    calls::add_method(
        &sample.get_type(),
        c"find",
        raw_find,
        c"find($self, /, first, others, kwargs, absent)\n--\n\n\
          Returns the value that is kept for a call with these arguments, or `absent`. Pass `absent` as `first` if \
          there are no positional arguments.",
    )
}
