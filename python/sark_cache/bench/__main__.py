"""``python -m sark_cache.bench [COMMAND] [options]``: chooses the command. Knows nothing of what commands measure."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {"caches": "sark_cache.bench.caches", "policy": "sark_cache.bench.policy"}
"""Modules with a ``main(arguments)`` that returns an exit status. Imported only when needed."""

DEFAULT = "caches"


def main(arguments: list[str]) -> int:
    """Runs the command that the first argument names, or without one the comparison of caches."""
    if arguments and arguments[0] in COMMANDS:
        name, *arguments = arguments
    else:
        name = DEFAULT
    status: int = importlib.import_module(COMMANDS[name]).main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
