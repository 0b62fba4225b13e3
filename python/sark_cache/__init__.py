"""An in-process LRU + TTL cache with a native engine.

The native part is ``sark_cache._core``. Importing this package starts no thread and imports nothing that takes long.
"""

# `collections.abc` under the name that every Python has loaded already; importing `collections` takes longer than this package.
from _collections_abc import MutableMapping as _MutableMapping

from sark_cache._core import Cache, RustCache, Stats
from sark_cache._decorator import CacheInfo, cached

__all__ = ["Cache", "CacheInfo", "RustCache", "Stats", "cached"]

# A cache has all that is asked of a MutableMapping. Said here and not by inheritance: the class is native.
_MutableMapping.register(Cache)
