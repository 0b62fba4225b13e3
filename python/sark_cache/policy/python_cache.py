"""Policy decisions in plain Python, for when neither the native extension nor a server is available."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sark_cache.policy.decision_cache import DecisionCache
from sark_cache.policy.python_engine import PythonCache

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from sark_cache.policy.base import Settings


class PythonPolicyCache(DecisionCache):
    """A policy cache over an engine in plain Python, with the arguments and guarantees of ``RustPolicyCache``."""

    backend = "python"

    def __init__(
        self,
        max_size: int | None = None,
        ttl_seconds: float | None = None,
        enabled: bool = True,
        use_optimized_ttl: bool = True,
        **options: Unpack[Settings],
    ) -> None:
        max_size = self.DEFAULT_MAX_SIZE if max_size is None else max_size
        ttl_seconds = self.DEFAULT_TTL_SECONDS if ttl_seconds is None else ttl_seconds
        engine = PythonCache(max_size, ttl_seconds)
        super().__init__(engine, max_size, ttl_seconds, enabled, use_optimized_ttl, **options)

    def _engine_tells_ttl(self) -> bool:
        return type(self.cache) is PythonCache

    def _empty_engine(self) -> None:
        if isinstance(self.cache, PythonCache):
            self.cache.start_anew()
        else:
            super()._empty_engine()
