"""The Python examples in the README and the docs run."""

from __future__ import annotations

from pathlib import Path

import examples
import pytest
from conftest import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
WITH_PYTHON = [page for page in PAGES if examples.blocks(page)]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page: Path) -> None:
    examples.run(page)


def test_readme_and_the_guide_have_examples() -> None:
    assert {"README.md", "python.md"} <= {page.name for page in WITH_PYTHON}
