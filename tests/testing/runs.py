"""Runs the tests of a contract without pytest, so that their failures are a result."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import pytest


def names_of(contract: type) -> list[str]:
    """Return the names of a contract's tests, without their ``test_``."""
    return [name[5:] for name in dir(contract) if name.startswith("test_")]


async def fails(contract: Any, name: str, fixtures: Callable[[], Mapping[str, Any]]) -> bool:
    """Return whether a test fails, with any of its parameters.

    Args:
        contract: The object whose tests they are.
        name: The test's name, without its ``test_``.
        fixtures: Makes what tests ask for beside their parameters, by name, for each run anew.
    """
    test = getattr(contract, f"test_{name}")
    for parameters in _parameters(test):
        given = {**fixtures(), **parameters}
        try:
            result = test(**{each: given[each] for each in inspect.signature(test).parameters})
            if inspect.isawaitable(result):
                await result
        except (Exception, pytest.fail.Exception):
            return True
    return False


def _parameters(test: Any) -> Iterator[dict[str, Any]]:
    marks = [mark.args for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    names = [name for name, _ in marks]
    for values in product(*(values for _, values in marks)):
        yield dict(zip(names, values, strict=True))
