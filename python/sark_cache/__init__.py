"""An in-process LRU + TTL cache with a native engine.

The native part is ``sark_cache._core``. Importing this package starts no thread and imports nothing that takes long.
"""

from sark_cache._core import Cache, RustCache, Stats

__all__ = ["Cache", "RustCache", "Stats"]
