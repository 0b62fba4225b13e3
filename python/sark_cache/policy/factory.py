"""Chooses the best policy cache that works here, and reports which one that is.

There is one instance per configuration and process. This module creates caches and does nothing else with them.
"""

from __future__ import annotations

import logging
import warnings
from threading import Lock
from typing import TYPE_CHECKING, Any

from sark_cache.policy import rust_cache
from sark_cache.policy.python_cache import PythonPolicyCache

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from sark_cache.policy.base import AllSettings
    from sark_cache.policy.surface import PolicyCache

_log = logging.getLogger("sark_cache.policy")

# The options are kept as well, so that no other object can take over the identity of one that is part of a
# configuration.
_instances: dict[tuple[Any, ...], tuple[PolicyCache, AllSettings]] = {}
_lock = Lock()
_warned = False


def create_policy_cache(*, redis_url: str | None = None, **options: Unpack[AllSettings]) -> PolicyCache:
    """Returns the policy cache for a configuration: the same one for the same configuration.

    * With ``redis_url``, decisions are kept in that Redis or Valkey, and shared by all its clients.
    * Without it, they are kept in this process, by the native engine, or by one in plain Python where the
      extension is missing.

    The attribute ``backend`` of the result is ``"redis"``, ``"rust"`` or ``"python"``. One line of the log
    reports it as well, and a missing extension causes one ImportWarning.

    Args:
        redis_url: A URL that ``redis-py`` and ``valkey-py`` understand, such as ``redis://localhost:6379/0``.
        **options: As for ``RustPolicyCache``.

    Raises:
        ImportError: with ``redis_url``, if neither the redis nor the valkey package is installed.
        TypeError: for options that the cache doesn't know, and for values of the wrong type.
        ValueError: for values that it refuses.

    >>> cache = create_policy_cache(max_size=10_000)
    >>> cache is create_policy_cache(max_size=10_000)
    True
    >>> cache.backend
    'rust'
    """
    configuration = (redis_url, *sorted((name, _identity(value)) for name, value in options.items()))
    with _lock:
        if configuration not in _instances:
            _instances[configuration] = (_create(redis_url, options), options)
        return _instances[configuration][0]


def _create(redis_url: str | None, options: AllSettings) -> PolicyCache:
    cache: PolicyCache
    if redis_url is not None:
        from sark_cache.policy.redis_cache import RedisPolicyCache

        cache = RedisPolicyCache(redis_url=redis_url, **options)
        _log.info("policy decisions are kept in Redis alone; nothing is cached in this process")
    elif rust_cache.RUST_AVAILABLE:
        cache = rust_cache.RustPolicyCache(**options)
        _log.info("policy decisions are kept in this process only, by the native engine")
    else:
        _warn_once()
        cache = PythonPolicyCache(**options)
        _log.info("policy decisions are kept in this process only, by an engine in plain Python")
    return cache


def _warn_once() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "sark_cache._core could not be imported: policy decisions are cached by slower Python code",
            ImportWarning,
            stacklevel=4,
        )


def _identity(value: Any) -> Any:
    """Returns something to compare configurations by: the value, or the identity of the object."""
    if isinstance(value, dict):
        return ("dict", tuple(sorted((name, repr(item)) for name, item in value.items())))
    if isinstance(value, (list, tuple, set, frozenset)):
        return (type(value).__name__, tuple(sorted(map(repr, value))))
    if value is None or isinstance(value, (str, int, float)):
        return (type(value).__name__, repr(value))
    return ("object", id(value))
