from collections.abc import Callable, Hashable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload, type_check_only

from typing_extensions import Self

from sark_cache._core import Cache

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)
_S = TypeVar("_S")

class CacheInfo(tuple[int, int, int, int]):
    """What `cache_info()` answers, as `functools` has it."""

    def __new__(cls, hits: int, misses: int, maxsize: int, currsize: int) -> Self: ...
    def __getnewargs__(self) -> tuple[int, int, int, int]: ...
    @property
    def hits(self) -> int: ...
    @property
    def misses(self) -> int: ...
    @property
    def maxsize(self) -> int: ...
    @property
    def currsize(self) -> int: ...

@type_check_only
class _Cached(Generic[_P, _R_co]):
    """A function whose results are kept: for type checkers alone."""

    __name__: str
    __qualname__: str
    @property
    def __wrapped__(self) -> Callable[_P, _R_co]: ...
    @property
    def cache(self) -> Cache[Any, Any]: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> _Cached[_P, _R_co]: ...
    @overload
    def __get__(
        self: _Cached[Concatenate[_S, _Q], _R], instance: _S, owner: type | None = None, /
    ) -> Callable[_Q, _R]: ...
    def cache_key(self, *args: _P.args, **kwargs: _P.kwargs) -> Hashable: ...
    def cache_info(self) -> CacheInfo: ...
    def cache_clear(self) -> None: ...

def cached(
    cache_or_maxsize: Cache[Any, Any] | int,
    /,
    *,
    ttl: float | None = None,
    key: Callable[..., Hashable] | None = None,
    typed: bool = False,
) -> Callable[[Callable[_P, _R]], _Cached[_P, _R]]: ...
