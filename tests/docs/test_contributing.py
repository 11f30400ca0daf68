"""docs/contributing.md has a place for every module of the core."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "async_tiercache"
MAP = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
MODULES = [path.name for path in CORE.glob("*.py") if path.name != "__init__.py"]
PACKAGES = [f"{path.parent.name}/" for path in CORE.glob("*/__init__.py")]


@pytest.mark.parametrize("name", sorted([*MODULES, *PACKAGES]))
def test_module_has_its_place_on_the_map(name: str) -> None:
    """Whoever looks for a part finds it, and what was added is not forgotten."""
    table = MAP.partition("### The core")[2].partition("\n## ")[0]

    assert f"`{name}`" in table
