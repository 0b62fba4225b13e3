"""Authorization decisions, cached in this process by the native engine, or in Redis.

    from sark_cache.policy import create_policy_cache

    cache = create_policy_cache()
    decision = await cache.get_or_evaluate(user_id, action, resource, evaluate=ask_the_policy_engine)

An authorization cache that answers wrongly grants access wrongly, so whenever this one is in doubt, it
evaluates again. The page `docs/policy-cache.md` states what is guaranteed. Importing this package imports
neither asyncio nor anything outside the standard library, and starts no thread.
"""

from sark_cache.policy.base import Explanation, Lookup
from sark_cache.policy.cache_cleanup import (
    CacheCleanupTask,
    CleanupMetrics,
    get_cleanup_task,
    start_cache_cleanup,
    stop_cache_cleanup,
)
from sark_cache.policy.factory import create_policy_cache
from sark_cache.policy.generations import Token
from sark_cache.policy.keys import Request, Uncacheable, key_from_input
from sark_cache.policy.metrics import CacheMetrics
from sark_cache.policy.python_cache import PythonPolicyCache
from sark_cache.policy.rust_cache import RustPolicyCache, get_rust_policy_cache, is_rust_cache_available
from sark_cache.policy.surface import PolicyCache

__all__ = [
    "CacheCleanupTask",
    "CacheMetrics",
    "CleanupMetrics",
    "Explanation",
    "Lookup",
    "PolicyCache",
    "PythonPolicyCache",
    "Request",
    "RustPolicyCache",
    "Token",
    "Uncacheable",
    "create_policy_cache",
    "get_cleanup_task",
    "get_rust_policy_cache",
    "is_rust_cache_available",
    "key_from_input",
    "start_cache_cleanup",
    "stop_cache_cleanup",
]
