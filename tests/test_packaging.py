"""The package as it is installed and as it stands in the repository, by its own rules."""

import ast
import contextlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import async_tiercache
import async_tiercache.testing

ROOT = Path(__file__).parents[1]
SOURCES = ("async_tiercache", "integrations", "benchmarks", "tests", ".ci")
FOLDERS = (*SOURCES, "docs")

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60


def _is_ours(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _python_files() -> list[Path]:
    found = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    return sorted(filter(_is_ours, found))


def _texts() -> Iterator[tuple[str, str]]:
    """Yield name and text of everything that is part of the repository, stored payloads apart."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found += [ROOT / name for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml")]
    for path in sorted(filter(_is_ours, found)):
        with contextlib.suppress(UnicodeDecodeError):
            yield _name(path), path.read_text("utf-8")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _project() -> dict[str, Any]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


# What an import gives and costs.


@pytest.mark.parametrize(
    "module", [async_tiercache, async_tiercache.testing], ids=lambda module: module.__name__
)
def test_all_names_what_is_public(module: ModuleType) -> None:
    """`__all__` is sorted and has every public name, and no other."""
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    names = set(module.__all__)

    assert names - {"__version__"} == public
    assert module.__all__ == sorted(names, key=lambda name: (not name.isupper(), name))


_IMPORT = """
import json, sys, threading
seen = []
sys.addaudithook(lambda event, _: seen.append(event))
{statements}
opened = [event for event in seen if event.startswith(("socket.", "subprocess.", "os.fork"))]
print(json.dumps([sorted({{name.split(".")[0] for name in sys.modules}}), opened,
                  threading.active_count()]))
"""


def _imported(statements: str) -> tuple[set[str], list[str], int]:
    """Return the packages, audit events and threads of a new process that runs `statements`."""
    program = _IMPORT.format(statements=statements)
    output = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True)
    packages, opened, threads = json.loads(output)
    return set(packages), opened, threads


def test_importing_the_core_loads_no_framework() -> None:
    """The core and a cache of L1 alone need msgpack and the standard library, nothing else."""
    packages, _, _ = _imported(
        "import async_tiercache; async_tiercache.TierCache(namespace='test')"
    )

    needed = packages - _imported("")[0] - set(sys.stdlib_module_names) - {"cython_runtime"}
    assert {name for name in needed if not name.startswith("_")} == {"async_tiercache", "msgpack"}


def test_importing_integrations_loads_no_framework() -> None:
    """The adapters' package loads an adapter's framework only with the adapter."""
    packages, _, _ = _imported(
        "import async_tiercache_integrations, async_tiercache_integrations.cli"
    )

    assert not packages & {"typer", "rich", "asyncpg", "redis", "pydantic", "msgspec"}


def test_constructing_opens_nothing() -> None:
    """Importing and constructing with a URL make no connection, process or thread."""
    _, opened, threads = _imported(
        "import async_tiercache\n"
        "async_tiercache.TierCache('redis://localhost:6379/0', namespace='test')"
    )

    assert opened == []
    assert threads == 1


def test_version_is_the_distributions() -> None:
    """`__version__` is what the installer shows."""
    assert async_tiercache.__version__ == importlib.metadata.version("async-tiercache")


# The layout.


def test_integrations_is_a_source_root() -> None:
    """`integrations/` holds packages and is none, so it never lands in site-packages."""
    assert not (ROOT / "integrations" / "__init__.py").exists()


@pytest.mark.parametrize("package", ["async_tiercache", "async_tiercache_integrations"])
def test_packages_are_marked_as_typed(package: str) -> None:
    """Type checkers read annotations of a package only if it has `py.typed`."""
    module = __import__(package)

    assert (Path(module.__path__[0]) / "py.typed").is_file()


def test_extras_that_messages_name_exist() -> None:
    """Whoever follows a hint or the docs can install what they name."""
    named: dict[str, str] = {}
    for name, text in _texts():
        for extras in re.findall(r"async-tiercache\[([\w,-]+)\]", text):
            named |= dict.fromkeys(extras.split(","), name)
    extras = _project()["optional-dependencies"]

    assert named
    assert {extra: name for extra, name in named.items() if extra not in extras} == {}


def test_constraints_name_versions_and_no_address() -> None:
    """CI's pins are names and versions: where they come from is the machine's business."""
    lines = (ROOT / ".ci" / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]

    assert pins
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin)] == []
    assert pins == sorted(pins, key=str.lower)


_OF_A_MACHINE = (
    # In two parts each, or this file would be its own finding.
    r"(?<![\w.}])/(?:work|root|home)/" + r"[\w.]",
    r"pypi" + r"\.org|python" + r"hosted|npm" + r"js\.",
    r"deb" + r"ian\.org|/opt/" + r"(?:wheels|pypi)",
)


def test_files_name_no_machine_and_no_registry() -> None:
    """Nothing of where the project was made stands in it."""
    found = [
        f"{name}: {match[0]}"
        for name, text in _texts()
        for pattern in _OF_A_MACHINE
        for match in re.finditer(pattern, text)
    ]

    assert found == []


# The form of the code.


def test_files_are_short() -> None:
    """A file that outgrows its page is split by noun."""
    lengths = {_name(path): len(path.read_text("utf-8").splitlines()) for path in _python_files()}

    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_functions_are_short() -> None:
    """A function can be seen whole."""
    lengths = {
        f"{_name(path)}:{function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in _python_files()
        for function in _functions(ast.parse(path.read_text("utf-8")))
    }

    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def _is_sleep(node: ast.AST) -> bool:
    """Return whether a call waits for real time; ``asyncio.sleep(0)`` only yields."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    function, owner = node.func, node.func.value
    if function.attr != "sleep" or not isinstance(owner, ast.Name):
        return False
    yields = [ast.unparse(argument) for argument in node.args] == ["0"]
    return owner.id == "time" or (owner.id == "asyncio" and not yields)


def _tends_servers(path: Path) -> bool:
    """Return whether a module polls and delays other processes, so that no test has to."""
    return _name(path).startswith("tests/servers/") and not path.name.startswith("test_")


def _is_mock(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any("mock" in alias.name for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (
        "mock" in (node.module or "") or any("mock" in alias.name for alias in node.names)
    )


@pytest.mark.parametrize("refused", [_is_sleep, _is_mock], ids=["sleeps", "mocks"])
def test_tests_use_neither_sleeps_nor_mocks(refused: Any) -> None:
    """Tests wait for events and run the real parts over doubles that keep promises."""
    found = [
        f"{_name(path)}:{getattr(node, 'lineno', 0)}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if not _tends_servers(path)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if refused(node)
    ]

    assert found == []
