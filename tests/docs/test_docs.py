"""The documentation keeps its word: its code runs, its examples are right, its links lead on.

The python blocks of a page run in order, in one name space, as a program's main module, with
``await`` at the top level. A block that needs what no test can have is marked ``python no-run``.
"""

import ast
import asyncio
import doctest
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import async_tiercache

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOT_RUN: dict[str, int] = {}
"""How many blocks of a page are marked ``no-run``: each one is a promise that nobody checks."""

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_REDIS = re.compile(r"redis://localhost(?::6379)?(?:/\d+)?")
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_INLINE_CODE = re.compile(r"`[^`\n]+`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: The page's path from the root.
        line: How many lines of the page come before its code.
        info: The words after the fence: the language first.
        code: What it holds.
    """

    page: str
    line: int
    info: tuple[str, ...]
    code: str

    @property
    def runs(self) -> bool:
        """Whether a test runs it."""
        return self.info == ("python",)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=_name(page),
            line=text.count("\n", 0, match.start(4)),
            info=tuple(match[3].split()),
            code=textwrap.dedent(match[4]),
        )
        for match in _FENCE.finditer(text)
    ]


def _pages() -> list[object]:
    """Return the pages that hold code to run; those that name a Redis need one."""
    found: list[object] = []
    for page in PAGES:
        code = [block.code for block in _blocks(page) if block.runs]
        marks = [pytest.mark.redis] if any(map(_REDIS.search, code)) else []
        if code:
            found.append(pytest.param(page, id=_name(page), marks=marks))
    return found


@pytest.fixture
def main_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return an empty main module, in which a page runs as a program would."""
    module = ModuleType("__main__")
    module.__file__ = str(ROOT / "docs" / "page.py")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


@pytest.mark.parametrize("page", _pages())
def test_code_of_a_page_runs(
    page: Path,
    main_module: ModuleType,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every block runs after those before it, its asserts hold, and nothing is advised against."""
    with asyncio.Runner() as runner:
        for block in filter(lambda block: block.runs, _blocks(page)):
            code = block.code
            if _REDIS.search(code):
                code = _REDIS.sub(request.getfixturevalue("redis_url"), code)
            _run(Block(block.page, block.line, block.info, code), main_module, runner)

    # What the test's own server is said to lack is no matter of the page.
    advice = [each.name for each in caplog.records if ".advice." in each.name]
    assert [name for name in advice if ".advice.redis-" not in name] == []


def _run(block: Block, module: ModuleType, runner: asyncio.Runner) -> None:
    compiled = compile(
        "\n" * block.line + block.code,  # so that a traceback names the page's own line
        str(ROOT / block.page),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    awaited = eval(compiled, module.__dict__)
    if inspect.iscoroutine(awaited):
        runner.run(awaited)


def test_blocks_that_do_not_run_are_listed() -> None:
    """A block is run, or counted here; a misspelt language hides nothing."""
    python = [block for page in PAGES for block in _blocks(page) if block.info[:1] != ()]
    python = [block for block in python if block.info[0].startswith("py")]
    skipped: dict[str, int] = {}
    for block in python:
        if not block.runs:
            assert block.info == ("python", "no-run"), f"{block.page}:{block.line}"
            skipped[block.page] = skipped.get(block.page, 0) + 1

    assert skipped == NOT_RUN


def _modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(async_tiercache.__path__, "async_tiercache."):
        yield found.name


@pytest.mark.parametrize("name", ["async_tiercache", *_modules()])
def test_examples_in_docstrings_are_right(name: str) -> None:
    """What an example prints is what its docstring shows."""
    result = doctest.testmod(importlib.import_module(name))

    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    """A link names a file of the repository and, after ``#``, one of its headings."""
    broken = [link for link in _links(page) if not _leads_somewhere(page, link)]

    assert broken == []


def _links(page: Path) -> list[str]:
    text = _INLINE_CODE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
    links: list[str] = _LINK.findall(text)
    return [link for link in links if not re.match(r"[a-z]+:", link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in _anchors(target)


def _anchors(page: Path) -> set[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found: dict[str, int] = {}
    for anchor in map(_anchor, _HEADING.findall(text)):
        found[anchor] = found.get(anchor, 0) + 1
    # A heading that stands on the page a second time has a number behind its anchor.
    again = {f"{anchor}-{n}" for anchor, times in found.items() for n in range(1, times)}
    return set(found) | again


def _anchor(heading: str) -> str:
    """Return the anchor that Markdown renderers give a heading."""
    kept = re.sub(r"[^\w\- ]", "", _LINK.sub("", heading).lower())
    return kept.strip().replace(" ", "-")


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=_name)
def test_page_begins_with_its_name_and_a_summary(page: Path) -> None:
    """Two lines say whether it is the page that a reader wants."""
    title, empty, *summary = page.read_text(encoding="utf-8").splitlines()[:4]

    assert title.startswith("# ")
    assert empty == ""
    assert all(re.fullmatch(r"\*.+\*", line) for line in summary)


def test_index_names_every_page() -> None:
    """What it does not name is found by nobody."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in _LINK.findall(index.read_text())}
    pages = {*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"} - {index}

    assert {page for page in pages if page.resolve() not in linked} == set()


@pytest.mark.parametrize("purpose", ["demo", "test"])
def test_readme_has_the_command_that_ci_runs(purpose: str) -> None:
    """`.ci/run` reads both commands from below their markers, so each is a block of one line."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    marker = f"<!-- {purpose} command -->\n"
    assert text.count(marker) == 1
    block = _FENCE.match(text, text.index(marker) + len(marker))

    assert block is not None
    assert len(block[4].splitlines()) == 1
