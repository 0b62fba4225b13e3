"""Finds and runs the Python blocks of a page of documentation, one after the other, as a reader would type them.

A block that can't run everywhere (because it needs a server, say) is marked ```` ```python no-run ````, and
is only compiled.

    python examples.py PAGE...

runs pages with nothing but Python and what the pages import, so that a package can be tried in an empty
environment.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_BLOCK = re.compile(r"^```python( no-run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, bool, str]]:
    """Returns the line of each block, whether it is to be run, and its text."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, block.start(2)), block[1] is None, block[2]) for block in _BLOCK.finditer(text)]


def run(page: Path) -> None:
    """Runs all blocks of a page in one namespace."""
    # Under this name, functions and classes of the examples can be pickled and inspected.
    names: dict[str, object] = {"__name__": "__main__"}
    for line, runs, text in blocks(page):
        # With the line numbers of the page, so that they appear in tracebacks.
        code = compile("\n" * line + text, str(page), "exec")
        if runs:
            exec(code, names)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        run(Path(argument))
        print(f"{argument}: {len(blocks(Path(argument)))} examples ran")
