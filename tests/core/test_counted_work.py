"""What a hit in memory does, counted: a machine's mood moves its time, but not this."""

import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

import pytest

from async_tiercache import Policy, TierCache
from async_tiercache.testing import settled

VERSION: Final = sys.version_info[:2]
INSTRUCTIONS: Final = {
    (3, 11): {"f(x)": 29, "f(x, y, z)": 41, "method": 34, "get": 35},
    (3, 12): {"f(x)": 27, "f(x, y, z)": 39, "method": 32, "get": 32},
    (3, 13): {"f(x)": 28, "f(x, y, z)": 39, "method": 33, "get": 31},
    (3, 14): {"f(x)": 30, "f(x, y, z)": 43, "method": 36, "get": 33},
}
"""Of the whole hit, by the interpreter's minor version."""


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


def instructions(call: Callable[[], Coroutine[Any, Any, Any]]) -> int:
    """Return how many instructions of the cache's code run while a call is awaited."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode" and frame.f_code.co_filename != __file__
        return trace

    coroutine = call()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        finished(coroutine)
    finally:
        sys.settrace(before)
    return count


def calls(call: Callable[[], Coroutine[Any, Any, Any]]) -> Counter[str]:
    """Return how many functions run while a call is awaited, by whether Python or C wrote them."""
    found = Counter[str]()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code.co_filename != __file__:
            found[event] += event in {"call", "c_call"}

    coroutine = call()
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        finished(coroutine)
    finally:
        sys.setprofile(before)
    return +found


async def hits() -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    """Return calls that memory answers."""
    cache = TierCache(namespace="test", policy=Policy(ttl="1h"))

    @cache.cached("one:{x}")
    async def one(x: int) -> int:
        return x

    @cache.cached("three:{x}:{y}:{z}")
    async def three(x: int, y: str, z: bool) -> int:
        return x

    class Users:
        @cache.cached("method:{x}:{y}")
        async def method(self, x: int, *, y: bool) -> int:
            return x

    users = Users()
    made: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "f(x)": lambda: one(1),
        "f(x, y, z)": lambda: three(1, "en", True),
        "method": lambda: users.method(1, y=True),
        "get": lambda: cache.get("key"),
    }
    await cache.set("key", 1)
    for call in made.values():
        for _ in range(100):
            # So often that the interpreter has specialised its code.
            await call()
    await settled(cache)
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="another clock takes another instruction")
@pytest.mark.skipif(VERSION not in INSTRUCTIONS, reason="not counted on this version yet")
async def test_a_hit_takes_so_many_instructions() -> None:
    """No more than were counted when it was last looked at, and if fewer, that is to be noted."""
    made = await hits()
    for call in made.values():
        instructions(call)  # The first time Python 3.12 tells of none.

    assert {name: instructions(call) for name, call in made.items()} == INSTRUCTIONS[VERSION]


async def test_a_hit_calls_nothing_but_a_clock_and_a_counter() -> None:
    """`next` of an iterator is an instruction more than its bound `__next__`, and less work."""
    made = await hits()

    assert [calls(call) for call in made.values()] == [{"call": 1, "c_call": 2}] * len(made)
