"""Compile the call path of a decorated coroutine, so that an L1 hit runs no code it can do without.

A generic wrapper would pay for `*args, **kwargs`, for binding them and for the key's text, each
about as much as the whole hit. So one `async def` with the function's own parameters is compiled
per decorated function. It looks for the slot in a table of the family's own, keyed by the bare
arguments; the text is made only when that fails. Its source holds names of parameters, which are
identifiers, and nothing that comes from outside the program.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from types import CodeType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from async_tiercache._clock import SYSTEM_CLOCK, fastest_clock
from async_tiercache._context import LoadContext
from async_tiercache._family import Alias
from async_tiercache._inside import CURRENT, RUNNING
from async_tiercache._ledger import Ledger
from async_tiercache._look import Look, Waiter, Wanted
from async_tiercache._parts import EXACT, RESERVED, Arguments, Parts
from async_tiercache._table import Found, Table, tuple_of
from async_tiercache.abc import Clock

Missed: TypeAlias = Callable[[str, str], list[str]]
"""Returns the lines for what is no hit, from the source of what was found, and of where."""


class Shortcut(NamedTuple):
    """What a call begins a look with by itself, where all calls of a function want the same.

    Attributes:
        admit: Lets it through, or raises.
        text: Makes the text of its key, from the values and `self`.
        begin: Begins the look.
        wanted: What it wants.
    """

    admit: Callable[[], object]
    text: Callable[[Arguments, Any], str]
    begin: Callable[[Wanted, str, Alias], tuple[Look, Waiter] | None]
    wanted: Wanted


_SPACE: Final[dict[str, Any]] = {
    **{f"{RESERVED}{kind.__name__}": kind for kind in EXACT},
    f"{RESERVED}KeyError": KeyError,
    f"{RESERVED}KeyOrTypeError": (KeyError, TypeError),
    f"{RESERVED}TypeError": TypeError,
    f"{RESERVED}Cancelled": asyncio.CancelledError,
    f"{RESERVED}Look": Look,
    f"{RESERVED}next": next,
    f"{RESERVED}nothing": dict[Any, Any](),
    f"{RESERVED}current": CURRENT.get,
    f"{RESERVED}running": RUNNING,
}
"""What the source of every function refers to."""


class CallPath:
    """The compiled functions of one decorated coroutine.

    Args:
        function: The decorated coroutine function.
        parts: Its parameter list.
        table: Where slots are found by the bare arguments; `None` always goes through `read`.
        look: Looks into L2 for a call that is no hit, from `self`, the values, what was found, and
            where it was looked for if that is known.
        shortcut: What does so at once, if that needs no more than the key; `None` asks `look`.
        join: Lets a call wait with others that have the same arguments, if it may.
        read: Answers a call that had no value from there.
        peek: Answers who does not wait, from `self` and the values, where the table cannot.
        hits_left: Goes on by one with each hit, and gives what that sets the slot's bit to.
        clock: The clock that slots are held against.
        ledger: Says whether what is in memory may be served.
        recheck: Looks at a slot again after an invalidation of any tag; returns whether it is good.
        proven: Whether that takes a proof that no message of another server is missing.
        keeps: Whether there is an L1; without it nothing but looks is found.

    Attributes:
        call: Takes the function's place: an L1 hit at once, anything else through `read`.
        peek: Takes the same arguments, and awaits nothing.
        peek_past: Takes the text of a key, a value, and the text of another key: a peek at the
            former, and where that value is there, one at the latter; `None` where L1 is not looked
            into by texts.
        collect: Takes the same arguments; returns `self` (or `None`) and the values.
        invoke: Calls the original with `self`, the values and the load context.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        parts: Parts,
        table: Table | None,
        *,
        look: Callable[[Any, Arguments, object, Alias | None], tuple[Look, Waiter] | None],
        shortcut: Shortcut | None,
        join: Callable[[Look], Waiter | None],
        read: Callable[[Any, Arguments, Look | None], Coroutine[Any, Any, Any]],
        peek: Callable[[Any, Arguments], Any],
        hits_left: Iterator[Literal[True]],
        clock: Clock,
        ledger: Ledger,
        recheck: Callable[[Any], bool],
        proven: bool,
        keeps: bool,
    ) -> None:
        self._function = function
        self._parts = parts
        self._table = table
        self._proven, self._keeps = proven, keeps
        self._read = read
        self._short = shortcut is not None
        tell, self._now = _time_of(clock, exact=proven)
        self._space: dict[str, Any] = {
            **parts.defaults,
            **_SPACE,
            f"{RESERVED}function": function,
            f"{RESERVED}look": look,
            f"{RESERVED}read": read,
            f"{RESERVED}go_on": self._go_on,
            f"{RESERVED}join": join,
            f"{RESERVED}look_up": peek,
            f"{RESERVED}hits_left": hits_left,
            f"{RESERVED}time": tell,
            f"{RESERVED}ledger": ledger,
            f"{RESERVED}recheck": recheck,
        }
        if shortcut is not None:
            self._space.update({f"{RESERVED}{k}": v for k, v in shortcut._asdict().items()})
        self._of_class: dict[type, tuple[CodeType, dict[str, Any]]] = {}
        self._values = f"{parts.owner}, {tuple_of(parts.names)}"
        found = self._found()
        lines = (*self._call_lines(found), *self._peek_lines(found), *self._past_lines(found))
        space = self._compiled(*lines, *self._other_lines())
        for name in ("peek", "collect"):  # errors about wrong arguments name them
            space[f"{RESERVED}{name}"].__qualname__ = function.__qualname__
        self.call: Callable[..., Coroutine[Any, Any, Any]] = functools.wraps(function)(
            space[f"{RESERVED}call"]
        )
        self.peek: Callable[..., Any] = space[f"{RESERVED}peek"]
        self.peek_past: Callable[[str, object, str], Any] | None = space.get(f"{RESERVED}peek_past")
        self.collect: Callable[..., tuple[Any, Arguments]] = space[f"{RESERVED}collect"]
        self.invoke: Callable[[Any, Arguments, LoadContext], Coroutine[Any, Any, Any]] = space[
            f"{RESERVED}invoke"
        ]

    def _found(self) -> Found | None:
        """Return the sources of where slots are found, if they are."""
        table, owner = self._table, self._parts.owner
        if table is None:
            return None
        if owner == "None":
            self._space.update(table.sources(type(None)))
            return table.found()
        self._space.update(table.sources_by_class())
        return table.found(owner)

    def call_of(self, kind: type) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a `call` of its own for one object; it need not look up the class."""
        made = self._of_class.get(kind)
        if made is None:
            space, found = dict(self._space), None
            if self._table is not None:
                found = self._table.found()
                space.update(self._table.sources(kind))
            made = self._of_class[kind] = self._code(*self._call_lines(found)), space
        code, space = made
        # A function that is made by anything but `def` is called in no short way. Nor may the
        # space know it, which would keep the object alive that it is for.
        defined: dict[str, Any] = {}
        exec(code, space, defined)  # noqa: S102
        return functools.wraps(self._function)(defined[f"{RESERVED}call"])

    def _compiled(self, *lines: str) -> dict[str, Any]:
        """Run source in a copy of the name space and return that."""
        space = dict(self._space)
        exec(self._code(*lines), space)  # noqa: S102
        return space

    def _code(self, *lines: str) -> CodeType:
        """Compile source."""
        name = getattr(self._function, "__qualname__", "coroutine")
        return compile("\n".join(lines), f"<tiercache {name}>", "exec")

    def _call_lines(self, found: Found | None) -> list[str]:
        """Return the source of `call`.

        Args:
            found: The sources of where slots are found.
        """
        if self._table is not None and self._table.by_text:
            found = None  # It asks whose the slot is; a peek leaves that to its caller.
        seen = _seen(self._now, keeps=self._keeps) if self._proven else None
        missed = partial(_missed_lines, self._values, seen, self._begins)
        return [f"async def {RESERVED}call({self._parts.header}):", *self._lines(found, missed)]

    def _begins(self, found: str, alias: str) -> list[str]:
        """Return the lines that begin a look, and the source of that.

        Args:
            found: The source of what was found; whatever that is knows the text of the key.
            alias: That of where.
        """
        if not self._short or alias == "None":
            return [f"{RESERVED}look({self._values}, {found}, {alias})"]
        key = f"{RESERVED}text({tuple_of(self._parts.names)}, {self._parts.owner})"
        if found != "None":
            # Equal arguments have equal texts, or they would not be in the table.
            key = f"{key} if {found} is None else {found}.key"
        return [f"{RESERVED}admit()", f"{RESERVED}begin({RESERVED}wanted, {key}, {alias})"]

    def _peek_lines(self, found: Found | None) -> list[str]:
        """Return the source of `peek`."""
        missed = partial(_unpeeked_lines, self._values)
        return [f"def {RESERVED}peek({self._parts.header}):", *self._lines(found, missed)]

    def _past_lines(self, found: Found | None) -> list[str]:
        """Return the source of `peek_past`, if there is one."""
        if found is None or self._table is None or not self._table.by_text:
            return []
        return [
            f"def {RESERVED}peek_past({RESERVED}key, {RESERVED}passed, {RESERVED}beyond):",
            *_indented(_past_lines(found[0], self._now, proven=self._proven)),
        ]

    def _other_lines(self) -> list[str]:
        """Return the source of `collect` and `invoke`."""
        return [
            f"def {RESERVED}collect({self._parts.header}):",
            f"    return {self._values}",
            f"def {RESERVED}invoke({RESERVED}owner, {RESERVED}values, {RESERVED}context):",
            f"    return {RESERVED}function({self._parts.call})",
        ]

    def _lines(self, found: Found | None, missed: Missed) -> list[str]:
        """Return the lines that answer a hit, or else as it is said."""
        lines, table = missed("None", "None"), self._table
        if found is None or table is None:
            return _indented(lines)
        if self._keeps:
            hit = _hit_lines(found, table, self._now, missed, proven=self._proven)
        else:
            hit = _look_lines(found, table, missed)
        if table.conditions:
            return _indented([f"if {' and '.join(table.conditions)}:", *_indented(hit), *lines])
        return _indented(hit)

    async def _go_on(self, owner: Any, values: Arguments, look: Look) -> Any:
        """Answer a call whose look has left it to a flight."""
        try:
            return await self._read(owner, values, look)
        finally:
            look.end()


def _time_of(clock: Clock, *, exact: bool) -> tuple[Callable[..., float], str]:
    """Return what tells the time of a hit, and the source that asks it.

    Without other servers nothing but a lifetime hangs on the time, and some milliseconds will do.
    """
    fastest = fastest_clock(exact=exact) if clock is SYSTEM_CLOCK else None
    if fastest is None:
        return clock.monotonic, f"{RESERVED}time()"
    tell, argument = fastest
    return tell, f"{RESERVED}time({argument})"


def _seen(clock: str, *, keeps: bool) -> str:
    """Return the source of whether a look was found, and of the time then."""
    slot, now = f"{RESERVED}slot", f"{RESERVED}now"
    if keeps:  # Then a hit was looked for, at that time.
        return f"{slot}.__class__ is {RESERVED}Look and {now}"
    return f"{slot} is not None and ({now} := {clock})"


def _missed_lines(
    values: str, seen: str | None, begins: Missed, found: str, alias: str
) -> list[str]:
    """Return the lines that answer what is no hit.

    They are no coroutine of their own, which would be one more of each reader of a stampede.
    Without other servers there are no looks.

    Args:
        values: The source of `self` and the values.
        seen: That of `_seen`; `None` without other servers.
        begins: Returns the lines that begin a look; the last is an expression for that.
        found: The source of what was found; it may be a look.
        alias: That of where.
    """
    read = f"return await {RESERVED}read({values}, None)"
    if seen is None:
        return [read]
    slot, now = f"{RESERVED}slot", f"{RESERVED}now"
    # Names of their own would make the frame of each hit larger.
    look, waiter, begun, answer = slot, now, now, now
    waits = [
        "try:",
        f"    {answer} = await {waiter}",
        f"except {RESERVED}Cancelled:",
        f"    {look}.left({waiter})",
        "    raise",
        f"if {answer} is not {look}:",
        f"    return {answer}",
        f"return await {RESERVED}go_on({values}, {look})",
    ]
    joins = [
        f"if ({seen} < {RESERVED}ledger.epoch.deadline",
        f"    and (not {RESERVED}running or {RESERVED}current() is None)",
        f"    and ({waiter} := {RESERVED}join({look})) is not None):",
        *_indented(waits),
    ]
    *before, look_begun = begins(found, alias)
    return [
        *(joins if found == slot else ()),
        *before,
        f"{begun} = {look_begun}",
        f"if {begun} is None:",
        f"    {read}",
        f"{look}, {waiter} = {begun}",
        *waits,
    ]


def _unpeeked_lines(values: str, _found: str, _alias: str) -> list[str]:
    """Return the lines that answer who does not wait."""
    return [f"return {RESERVED}look_up({values})"]


def _hit_lines(
    found: Found, table: Table, clock: str, missed: Missed, *, proven: bool
) -> list[str]:
    """Return the lines that answer a hit, or else as it is said, if they can tell."""
    slots, alias = found
    slot, recheck = f"{RESERVED}slot", f"{RESERVED}recheck({RESERVED}slot)"
    # While loads run, only the context tells whether this is read inside of one.
    over, outside = f"{slot}.epoch.over", f"{RESERVED}current() is None"
    good = f"{over} is None or ({outside} and (not {over} or {recheck}))"
    if proven:
        clock = f"({RESERVED}now := {clock})"
        proof = f"{RESERVED}now < {slot}.epoch.deadline"
        good = f"({proof} or ({recheck} and {proof})) and (not {RESERVED}running or {outside})"
    # An argument without a hash cannot be in the table; the key's text has the last word.
    missing = f"{RESERVED}KeyOrTypeError" if table.unsafe else f"{RESERVED}KeyError"
    return [
        # A subscript costs a hit less than a call of `get`, and what is missing costs more anyway.
        # Below the `try` it would cost an instruction that does nothing.
        f"try: {slot} = {slots}[{table.expression}]",
        f"except {missing}:",
        f"    {slot} = None",
        "else:",
        f"    if ({clock} < {slot}.soft_deadline",
        f"        and ({good})):",
        f"        {slot}.visited = {RESERVED}next({RESERVED}hits_left)",
        f"        return {slot}.value",
        *missed(slot, alias),
    ]


def _past_lines(slots: str, clock: str, *, proven: bool) -> list[str]:
    """Return the lines that answer from two slots, one of which tells where the other is.

    What one look at the time, and at the tasks that load, does not settle is left to two peeks.
    """
    key, passed, beyond = f"{RESERVED}key", f"{RESERVED}passed", f"{RESERVED}beyond"
    first, slot, now = f"{RESERVED}first", f"{RESERVED}slot", f"{RESERVED}now"
    # While loads run, only the context tells whether this is read inside of one.
    outside = f"{RESERVED}current() is None"
    good = f"({{0}}.epoch.over is None or ({outside} and not {{0}}.epoch.over))"
    if proven:
        good = f"{{1}} < {{0}}.epoch.deadline and (not {RESERVED}running or {outside})"
    return [
        f"try: {first}, {slot} = {slots}[{key}], {slots}[{beyond}]",
        f"except {RESERVED}KeyError: pass",
        "else:",
        f"    {now} = {clock}",
        f"    if ({first}.value is {passed}",
        f"        and {now} < {first}.soft_deadline and {good.format(first, now)}",
        f"        and {now} < {slot}.soft_deadline and {good.format(slot, now)}):",
        f"        {first}.visited = {RESERVED}next({RESERVED}hits_left)",
        f"        {slot}.visited = {RESERVED}next({RESERVED}hits_left)",
        f"        return {slot}.value",
        f"{first} = {RESERVED}peek({key})",
        f"return {RESERVED}peek({beyond}) if {first} is {passed} else {first}",
    ]


def _look_lines(found: Found, table: Table, missed: Missed) -> list[str]:
    """Return the lines that find another call's look, where there is nothing else to be found."""
    slots, alias = found
    slot = f"{RESERVED}slot"
    finds = f"{slot} = {slots}.get({table.expression})"
    if table.unsafe:
        finds = f"try: {finds}\nexcept {RESERVED}TypeError: {slot} = None"
    return [*finds.split("\n"), *missed(slot, alias)]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
