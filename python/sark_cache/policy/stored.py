"""Checks of what comes from outside: the requests of a batch, and what an engine returns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sark_cache.policy.base import Decision


def check_requests(requests: list[Any]) -> None:
    """Checks all requests of a batch before anything is looked up or counted.

    Raises:
        ValueError: if one isn't a tuple of ``(user_id, action, resource, context)``.
    """
    for request in requests:
        if not isinstance(request, tuple) or len(request) != 4:
            raise ValueError(f"requests must be tuples of 4, not {request!r}")


def decoded(text: Any) -> Decision | None:
    """Returns the decision in a text from an engine.

    Raises:
        TypeError, ValueError: if the engine returned something else.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        raise TypeError(f"the engine must give a str or None, not {type(text).__name__}")
    decision = json.loads(text)
    if type(decision) is not dict:
        raise ValueError(f"a cached decision must be a JSON object, not {type(decision).__name__}")
    return decision
