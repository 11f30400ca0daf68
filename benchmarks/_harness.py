"""Time coroutines against a floor, round by round, so that a busy machine moves both sides.

A *sweep* is a coroutine that awaits one expression for each key it is given. Each round times the
floor's sweep and the subject's next to each other, in turning order, and keeps their ratio.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from statistics import median
from typing import Any, Final, Literal, TypeAlias

SWEEP_SECONDS: Final = 0.2
"""How long a sweep may take: what is slow is swept over fewer keys, and no less certain for it."""
_WARM_UP: Final = 8
"""Of so many keys one is swept before the rounds."""

Sweep: TypeAlias = Callable[[Sequence[int]], Awaitable[None]]
ClockName: TypeAlias = Literal["cpu", "wall"]

_CLOCKS: Final[dict[ClockName, Callable[[], int]]] = {
    "cpu": time.process_time_ns,
    "wall": time.perf_counter_ns,
}


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done.

    Attributes:
        rounds: How often floor and subject are timed; each round gives one ratio.
        scale: By what the number of awaits in a sweep is multiplied, and the time that it may take.
    """

    rounds: int
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question: what does the subject cost, in units of the floor?

    Attributes:
        name: What the table calls it.
        subject: The sweep over what is measured.
        floor: The sweep over what it is compared with, of the same shape.
        floor_name: What that is.
        keys: What both sweeps are given, as far as there is time for it.
        bars: The clocks to read, each with the ratio not to be exceeded, or `None`.
        check: Raises if the subject's sweeps did something else than was to be measured.
    """

    name: str
    subject: Sweep
    floor: Sweep
    floor_name: str
    keys: Sequence[int]
    bars: dict[ClockName, float | None]
    check: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of what the rounds gave."""

    median: float
    min: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a case gave by one clock; times in nanoseconds per await."""

    case: str
    clock: ClockName
    floor_name: str
    floor_ns: Spread
    subject_ns: Spread
    ratio: Spread
    bar: float | None
    passed: bool | None


Times: TypeAlias = dict[ClockName, float]
"""Nanoseconds per await, by clock."""


async def measure(cases: Sequence[Case], effort: Effort) -> list[Result]:
    """Return what the rounds gave, one result for each case and clock."""
    # What was there before the cases need not be gone through before each sweep.
    gc.freeze()
    try:
        return await _measure(cases, effort)
    finally:
        gc.unfreeze()


async def _measure(cases: Sequence[Case], effort: Effort) -> list[Result]:
    times: list[list[tuple[Times, Times]]] = [[] for _ in cases]
    timed = [await _warmed_up(case, SWEEP_SECONDS * effort.scale) for case in cases]
    for turn in range(effort.rounds):
        for index in range(len(cases)):
            number = (index + turn) % len(cases)
            pair = await _time_pair(timed[number], subject_first=turn % 2 == 1)
            times[number].append(pair)
    for case in cases:
        case.check()
    return [
        result_of(pairs, clock, case=case.name, floor_name=case.floor_name, bar=bar)
        for case, pairs in zip(cases, times, strict=True)
        for clock, bar in case.bars.items()
    ]


async def _warmed_up(case: Case, seconds: float) -> Case:
    """Return the case with as many keys as either sweep can take in some seconds.

    Specialising the byte code and connecting are not what is asked, so both have been swept.
    """
    few = case.keys[: -(-len(case.keys) // _WARM_UP)]
    sides = [await _time(sweep, few) for sweep in (case.floor, case.subject)]
    most = seconds * 1e9 / max(side["wall"] for side in sides)
    return replace(case, keys=case.keys[: max(len(few), int(most))])


async def _time_pair(case: Case, *, subject_first: bool) -> tuple[Times, Times]:
    """Return the times per await of floor and subject, without the loop around the awaits."""
    empty = await _time(_empty, case.keys)
    if subject_first:
        subject, floor = await _time(case.subject, case.keys), await _time(case.floor, case.keys)
    else:
        floor, subject = await _time(case.floor, case.keys), await _time(case.subject, case.keys)
    return _less(floor, empty), _less(subject, empty)


async def _time(sweep: Sweep, keys: Sequence[int]) -> Times:
    # Hits never wait, and a bus must not starve behind them.
    await asyncio.sleep(0)
    gc.collect()
    gc.disable()
    try:
        before = {name: clock() for name, clock in _CLOCKS.items()}
        await sweep(keys)
        return {name: (clock() - before[name]) / len(keys) for name, clock in _CLOCKS.items()}
    finally:
        gc.enable()


async def _empty(keys: Sequence[int]) -> None:
    for _key in keys:
        pass


def _less(times: Times, empty: Times) -> Times:
    return {clock: times[clock] - empty[clock] for clock in times}


def result_of(
    pairs: Sequence[tuple[Times, Times]],
    clock: ClockName,
    *,
    case: str,
    floor_name: str,
    bar: float | None,
) -> Result:
    """Return what pairs of floor and subject give, each timed next to each other."""
    ratio = _spread(subject[clock] / floor[clock] for floor, subject in pairs)
    return Result(
        case=case,
        clock=clock,
        floor_name=floor_name,
        floor_ns=_spread(floor[clock] for floor, _ in pairs),
        subject_ns=_spread(subject[clock] for _, subject in pairs),
        ratio=ratio,
        bar=bar,
        passed=None if bar is None else ratio.median <= bar,
    )


def _spread(values: Iterable[float]) -> Spread:
    ordered = sorted(values)
    return Spread(median(ordered), ordered[0], ordered[-1])


def zipf_keys(count: int, *, among: int, seed: int = 1) -> list[int]:
    """Return `count` keys below `among`, popular as Zipf's law with exponent 1 has it.

    Made beforehand, the same in every run; which key is popular has nothing to do with its number.
    """
    chance: Any = Random(seed)
    names = chance.sample(range(among), among)
    weights = list(accumulate(1 / rank for rank in range(1, among + 1)))
    drawn: list[int] = chance.choices(names, cum_weights=weights, k=count)
    return drawn
