"""docs/api.md names all that is public, with its signature and its defaults."""

import ast
import inspect
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

import async_tiercache
from async_tiercache import (
    L1,
    Advice,
    BoundBatch,
    BoundCached,
    Compression,
    Dictionary,
    Explanation,
    Histogram,
    Invalidated,
    LoadContext,
    Loaded,
    Mutated,
    Operation,
    Policy,
    Read,
    Refused,
    Report,
    Statistics,
    TierCache,
    TierChanged,
    Writing,
    abc,
    errors,
    testing,
)
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache._environment import from_environment
from async_tiercache._options import BUILT_IN
from async_tiercache_integrations import django, starlette
from async_tiercache_integrations.fastapi import cached_response
from async_tiercache_integrations.litestar import TierCacheStore
from async_tiercache_integrations.logging import LoggingObserver
from async_tiercache_integrations.opentelemetry import OpenTelemetryTracer, instrument
from async_tiercache_integrations.prometheus import CacheCollector

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EVENTS = (Read, Loaded, Refused, Invalidated, TierChanged, Advice, Mutated)
METHODS = [
    name
    for name, member in inspect.getmembers(TierCache, inspect.isroutine)
    if not name.startswith("_")
]

_SIGNATURE = re.compile(r"^[A-Z]\w*(?:\.\w+)?(?:\(.*\))?$", re.MULTILINE)
_ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)


def _members(owner: Any) -> list[tuple[str, Any]]:
    return list(vars(owner).items())


def _defined(module: Any) -> list[str]:
    """Return the public names that a module defines itself."""
    return [
        name
        for name, value in _members(module)
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _signature(owner: str, function: Any) -> str:
    """Spell a signature without annotations and without `self`."""
    spelled = {L1(): "L1()", Policy(): "Policy()"}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        default = parameter.default
        if default is SYSTEM_CLOCK:
            default = _Spelled("...")
        elif isinstance(default, L1 | Policy):
            default = _Spelled(spelled[default])
        parameters.append(parameter.replace(annotation=parameter.empty, default=default))
    return f"{owner}{inspect.Signature(parameters)}"


class _Spelled(str):
    __slots__ = ()
    __repr__ = str.__str__


def _documented_signatures() -> list[str]:
    return _SIGNATURE.findall(PAGE)


@pytest.mark.parametrize(
    "name",
    [
        *async_tiercache.__all__,
        *_defined(errors),
        *testing.__all__,
        *_defined(abc),
        "Observer",
    ],
)
def test_public_name_is_on_the_page(name: str) -> None:
    """A name that users can import is documented, in code."""
    assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", PAGE)


def test_pages_import_nothing_that_is_not_on_the_page() -> None:
    """What an example shows is public."""
    imported: set[str] = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            froms = [each for each in ast.walk(_parsed(block)) if isinstance(each, ast.ImportFrom)]
            ours = [each for each in froms if (each.module or "").startswith("async_tiercache")]
            imported |= {alias.name for each in ours for alias in each.names}

    assert imported > {"TierCache", "LoggingObserver"}
    assert [name for name in sorted(imported) if not re.search(rf"`[^`\n]*\b{name}\b", PAGE)] == []


def _parsed(block: str) -> ast.AST:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    parsed: ast.AST = compile(block, "page", "exec", flags=flags)
    return parsed


@pytest.mark.parametrize(
    "adapter",
    [
        LoggingObserver,
        OpenTelemetryTracer,
        instrument,
        CacheCollector,
        TierCacheStore,
        cached_response,
        django.lifespan,
        starlette.lifespan,
        starlette.route_rule,
    ],
    ids=lambda adapter: f"{adapter.__module__}.{adapter.__name__}",
)
def test_signature_of_an_adapter_is_on_the_page(adapter: Any) -> None:
    """It stands there behind the name of its module."""
    module = adapter.__module__.rpartition(".")[2]

    assert f"`{_signature(f'{module}.{adapter.__name__}', adapter)}`" in PAGE


@pytest.mark.parametrize("name", METHODS)
def test_signature_of_a_method_is_on_the_page(name: str) -> None:
    """It stands there as it is, every parameter and default included."""
    expected = _signature(f"TierCache.{name}", getattr(TierCache, name))

    assert expected in _documented_signatures()


@pytest.mark.parametrize(
    "kind", [TierCache, L1, Policy, Compression, Dictionary], ids=lambda kind: kind.__name__
)
def test_signature_of_a_constructor_is_on_the_page(kind: Any) -> None:
    """It stands there as it is, every parameter and default included."""
    assert _signature(kind.__name__, kind) in _documented_signatures()


def test_parameters_of_the_constructor_are_explained() -> None:
    """Each parameter of TierCache has a row."""
    parameters = inspect.signature(TierCache).parameters

    assert [name for name in parameters if f"\n| `{name}` | " not in PAGE] == []


def test_no_signature_is_of_something_gone() -> None:
    """A documented method exists."""
    kinds: dict[str, Any] = {
        "TierCache": TierCache,
        "Policy": Policy,
        "Writing": Writing,
        "Dictionary": Dictionary,
    }
    named = re.findall(r"^(\w+)\.(\w+)", "\n".join(_documented_signatures()), re.MULTILINE)

    assert named
    assert [f"{kind}.{name}" for kind, name in named if not hasattr(kinds[kind], name)] == []


def test_defaults_of_policies_are_those_built_in() -> None:
    """The table of policy fields states each field's default."""
    section = PAGE.partition("\n## Policy\n")[2].partition("\n## ")[0]
    stated = {name: ast.literal_eval(text.strip("`")) for name, text, _ in _ROW.findall(section)}

    assert stated == {field.name: getattr(BUILT_IN, field.name) for field in fields(Policy)}


@pytest.mark.parametrize(
    "kind",
    [Statistics, Histogram, Report, Explanation, Operation, *EVENTS],
    ids=lambda kind: kind.__name__,
)
def test_fields_of_a_record_are_on_the_page(kind: Any) -> None:
    """Every field, and every property, is named in code."""
    assert is_dataclass(kind)
    names = [field.name for field in fields(kind)]
    names += [name for name, value in _members(kind) if isinstance(value, property)]

    assert [name for name in names if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_row_of_an_event_names_its_fields(kind: Any) -> None:
    """Its row in the table of events lists exactly its fields, in their order."""
    rows = {name: listed for name, listed, _ in _ROW.findall(PAGE.partition("\n## Events\n")[2])}

    assert re.findall(r"`(\w+)`", rows[kind.__name__]) == [field.name for field in fields(kind)]


def test_helpers_of_a_cached_function_are_on_the_page() -> None:
    """Each helper has its row."""
    helpers = [name for name in vars(BoundCached) if not name.startswith("_")]

    assert helpers
    assert [name for name in helpers if f"f.{name}(" not in PAGE] == []


def test_helpers_of_a_batch_are_on_the_page() -> None:
    """Each helper has its row."""
    helpers = [name for name in vars(BoundBatch) if not name.startswith("_")]

    assert helpers
    assert [name for name in helpers if f"b.{name}(" not in PAGE] == []


def test_properties_of_a_cache_are_on_the_page() -> None:
    """Each stands in a heading."""
    names = [name for name, value in _members(TierCache) if isinstance(value, property)]
    headings = " ".join(re.findall(r"^### (.+)$", PAGE, re.MULTILINE))

    assert names
    assert [name for name in names if not re.search(rf"\b{name}\b", headings)] == []


def test_members_of_the_load_context_are_on_the_page() -> None:
    """Each that a loader may use has its row."""
    names = {
        "skipped",
        "is_negative",
        "unmodified",
        "adopt",
        "new_etag",
        "texts",
    }  # what the cache asks it afterwards
    names = {name for name in vars(LoadContext) if not name.startswith("_")} - names

    assert "stale_value" in names
    assert [name for name in names if f"`context.{name}" not in PAGE] == []


@pytest.mark.parametrize(
    "kind", [abc.Clock, abc.Codec, abc.Remote, abc.Tracer], ids=lambda kind: kind.__name__
)
def test_methods_of_a_protocol_are_on_the_page(kind: Any) -> None:
    """Its row names each of them."""
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{kind.__name__}` | "))
    members = [
        name
        for name, value in _members(kind)
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
    ]

    assert members
    assert [name for name in members if f"`{name}" not in row] == []


def test_environment_variables_are_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those on the page are understood, and no others are."""
    section = PAGE.partition("\n### from_env\n")[2].partition("\n### ")[0]
    stated = re.findall(r"`TIERCACHE_(\w+)`", section)
    values = {"ENABLED": "1", "L1_MAX_ENTRIES": "10", "L1_MAX_BYTES": "1MiB", "GRACE": "1h"}
    for name in stated:
        monkeypatch.setenv(f"PAGE_{name}", values.get(name, "5m"))
    from_environment("PAGE_")

    monkeypatch.setenv("PAGE_OTHER", "1")
    with pytest.raises(errors.ConfigurationError) as refused:
        from_environment("PAGE_")

    known = re.findall(r"\b[A-Z][A-Z0-9_]+\b", refused.value.hint.removeprefix("Known"))
    assert set(known) - {"PAGE_"} == set(stated)
