"""An in-process LRU + TTL cache with a native engine.

The native part is ``sark_cache._core``. Importing this package starts no thread and imports nothing that
takes long. On platforms without a native part, ``sark_cache.policy`` still works, in plain Python, and the
caches report what is missing.
"""

# This is `collections.abc` under the name that every Python has already loaded. Importing `collections` takes
# longer than importing this package.
from _collections_abc import MutableMapping as _MutableMapping

_missing: "ImportError | None" = None
try:
    from sark_cache._core import Cache, RustCache, Stats
    from sark_cache._decorator import CacheInfo, cached
except ImportError as _error:
    _missing = _error
else:
    # A cache has everything that a MutableMapping needs. It is registered, not derived, because the class is
    # native.
    _MutableMapping.register(Cache)  # pyright: ignore[reportAttributeAccessIssue]

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str

else:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            # Not done at import: importing `importlib.metadata` takes longer than importing this package.
            from importlib.metadata import version

            globals()["__version__"] = found = version("sark-cache")
            return found
        if _missing is not None and name in __all__:
            raise ImportError(f"{name} needs sark_cache._core, which could not be imported: {_missing}") from _missing
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Cache", "CacheInfo", "RustCache", "Stats", "cached"]
