"""Compile the call path of a decorated coroutine, so that an L1 hit runs no code it can do without.

A generic wrapper would pay for `*args, **kwargs`, for binding them and for the key's text, each
about as much as the whole hit. So one `async def` with the function's own parameters is compiled
per decorated function. It looks for the slot in a table of the family's own, keyed by the bare
arguments; the text is made only when that fails. Its source holds names of parameters, which are
identifiers, and nothing that comes from outside the program.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final, NewType, TypeAlias
from uuid import UUID

from async_tiercache._clock import SYSTEM_CLOCK, coarse_clock
from async_tiercache._context import LoadContext
from async_tiercache._family import Alias, Aliases
from async_tiercache._inside import CURRENT, RUNNING
from async_tiercache._ledger import Ledger
from async_tiercache._look import Look, Waiter
from async_tiercache.abc import Clock
from async_tiercache.errors import ConfigurationError

Arguments: TypeAlias = tuple[object, ...]

_NONE_TYPE = type(None)
EXACT: Final = frozenset({int, str, bytes, bool, UUID, _NONE_TYPE})
"""Classes whose equal values have equal key texts; floats do not (0.0 == -0.0), nor do subclasses.
Values of different classes are told apart by the class itself (1 == True)."""

_RESERVED = "_tc_"
_SPACE: Final[dict[str, Any]] = {
    **{f"{_RESERVED}{kind.__name__}": kind for kind in EXACT},
    f"{_RESERVED}KeyError": KeyError,
    f"{_RESERVED}KeyOrTypeError": (KeyError, TypeError),
    f"{_RESERVED}Cancelled": asyncio.CancelledError,
    f"{_RESERVED}Look": Look,
    f"{_RESERVED}next": next,
    f"{_RESERVED}current": CURRENT.get,
    f"{_RESERVED}running": RUNNING,
}
"""What the source of every function refers to."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A parameter list in the forms that the source is built from.

    Attributes:
        header: As in ``def f(header)``.
        names: All parameters but `self`.
        owner: ``self``, or ``None`` for a function.
        call: As in ``f(call)``, taking the values from a tuple ``_tc_values``, and from
            ``_tc_context`` the load context.
        guards: The class that a parameter must have exactly, for those annotated with one.
        defaults: What the header's defaults refer to.
    """

    header: str
    names: tuple[str, ...]
    owner: str
    call: str
    guards: Mapping[str, type]
    defaults: Mapping[str, object]


def parts_of(
    signature: inspect.Signature,
    hints: Mapping[str, Any],
    *,
    is_method: bool,
    context: str | None = None,
) -> Parts:
    """Return the parts of a signature.

    Args:
        signature: The signature.
        hints: The resolved annotations.
        is_method: Whether the first parameter is `self`.
        context: The parameter that takes the load context; callers do not pass it.

    Raises:
        ConfigurationError: A parameter has a name that the compiled source uses itself.
    """
    passed = list(signature.parameters.values())
    owner = passed.pop(0) if is_method else None
    parameters: list[inspect.Parameter] = []
    defaults: dict[str, object] = {}
    call = [f"{_RESERVED}owner"] if is_method else []
    for parameter in passed:
        name, kind = parameter.name, parameter.kind
        keyword = f"{name}=" if kind is parameter.KEYWORD_ONLY else ""
        if name == context:
            call.append(f"{keyword}{_RESERVED}context")
            continue
        if name.startswith(_RESERVED):
            raise ConfigurationError(
                f"The parameter {name!r} begins with {_RESERVED}", hint="Give it another name."
            )
        if parameter.default is not parameter.empty:
            defaults[f"{_RESERVED}default_{name}"] = parameter.default
        star = "*" * ((kind is parameter.VAR_POSITIONAL) + 2 * (kind is parameter.VAR_KEYWORD))
        call.append(f"{star}{keyword}{_RESERVED}values[{len(parameters)}]")
        parameters.append(parameter)
    return Parts(
        header=_header([*([owner] if owner else []), *parameters]),
        names=tuple(parameter.name for parameter in parameters),
        owner=owner.name if owner else "None",
        call=", ".join(call),
        guards={
            name: hint
            for name, hint in ((p.name, _plain(hints.get(p.name))) for p in parameters)
            if hint in EXACT
        },
        defaults=defaults,
    )


def _plain(hint: Any) -> Any:
    """Return the class behind a `NewType`; anything that is no class compares unequal to all."""
    while isinstance(hint, NewType):
        hint = hint.__supertype__
    return hint if isinstance(hint, type) else None


def _header(parameters: list[inspect.Parameter]) -> str:
    """Spell a parameter list, with defaults by reference and without annotations."""
    spelled: list[inspect.Parameter] = []
    for parameter in parameters:
        default: Any = parameter.empty
        if parameter.default is not parameter.empty:
            default = _Reference(f"{_RESERVED}default_{parameter.name}")
        spelled.append(parameter.replace(annotation=parameter.empty, default=default))
    return str(inspect.Signature(spelled))[1:-1]


class _Reference(str):
    """A default that is spelled as the name under which the source finds it."""

    __slots__ = ()
    __repr__ = str.__str__


def _tuple(names: Iterable[str]) -> str:
    """Spell a tuple of names."""
    return "(" + "".join(f"{name}, " for name in names) + ")"


def _condition(name: str, guard: type) -> str:
    """Spell that a parameter has exactly a class."""
    if guard is bool:  # of which there are two, and that is asked faster
        return f"({name} is True or {name} is False)"
    return f"{name}.__class__ is {_RESERVED}{guard.__name__}"


class Table:
    """Where the call path finds slots by the bare arguments: one dict per class of `self`.

    Where there is no slot there may be the look that a call with these arguments has begun.

    Args:
        parts: The parameter list.
        keyed: The parameters that stand in the key, in order.
        text: Returns what makes the text of a key again from what stands for it in a dict, by the
            class of `self` and the places of the values of `keyed` in that, if it is a tuple.
        texts: L1 itself, for a function whose only such parameter is the key's text: its slots have
            no other name, and another family's may be among them.

    Attributes:
        slots: The dict of each class of `self`; a function's stands under the class of `None`.
        by_text: Whether that is L1 itself.
        expression: The source of the key in it.
        conditions: The source of what must hold before it is asked.
        unsafe: Whether asking may raise `TypeError`, for an argument without a hash.
    """

    __slots__ = (
        "_aliases",
        "_checks",
        "_places",
        "_single",
        "_text",
        "by_text",
        "conditions",
        "expression",
        "slots",
        "unsafe",
    )

    def __init__(
        self,
        parts: Parts,
        keyed: Collection[str],
        *,
        text: Callable[[type, Sequence[int] | None], Callable[[Any], str]],
        texts: dict[str, Any] | None = None,
    ) -> None:
        self._aliases: dict[type, Aliases] = {}
        self._text = text
        self.slots = _ByClass()
        self.by_text = texts is not None
        if texts is not None:
            self.slots[_NONE_TYPE] = texts
        self._checks = [(parts.names.index(name), parts.guards.get(name)) for name in keyed]
        self.unsafe = any(name not in parts.guards for name in keyed)
        self._single = len(keyed) == 1 and not self.unsafe
        terms: list[str] = []
        self._places: list[int] = []
        for name in keyed:
            self._places.append(len(terms))
            terms += [name] if name in parts.guards else [name, f"{name}.__class__"]
        self.expression = terms[0] if self._single else _tuple(terms)
        self.conditions = [
            _condition(name, parts.guards[name]) for name in keyed if name in parts.guards
        ]

    def alias(self, owner: object, values: Arguments) -> Alias | None:
        """Return where a call looks for its slot; `None` if equal arguments may differ in text.

        Nor is there an alias where the text itself is looked for.
        """
        if self.by_text:
            return None
        if self._single:
            ((index, guard),) = self._checks
            value = values[index]
            return (self._aliases_of(type(owner)), value) if type(value) is guard else None
        terms: list[object] = []
        for index, guard in self._checks:
            value = values[index]
            kind = type(value)
            if (kind is not guard) if guard is not None else (kind not in EXACT):
                return None
            terms += [value] if guard is not None else [value, kind]
        return self._aliases_of(type(owner)), tuple(terms)

    def _aliases_of(self, kind: type) -> Aliases:
        aliases = self._aliases.get(kind)
        if aliases is None:
            places = None if self._single else self._places
            aliases = self._aliases[kind] = Aliases(self.slots[kind], self._text(kind, places))
        return aliases


class _ByClass(dict[type, dict[Any, Any]]):
    """Makes the dict of a class when its first call comes."""

    __slots__ = ()

    def __missing__(self, kind: type) -> dict[Any, Any]:
        slots = self[kind] = {}
        return slots


class CallPath:
    """The compiled functions of one decorated coroutine.

    Args:
        function: The decorated coroutine function.
        parts: Its parameter list.
        table: Where slots are found by the bare arguments; `None` always goes through `read`.
        look: Looks into L2 for a call that is no hit, from `self`, the values and what was found.
        join: Lets a call wait with others that have the same arguments, if it may.
        read: Answers a call that had no value from there.
        peek: Answers who does not wait, from `self` and the values, where the table cannot.
        hits_left: Goes on by one with each hit.
        clock: The clock that slots are held against.
        ledger: Says whether what is in memory may be served.
        recheck: Looks at a slot again after an invalidation of any tag; returns whether it is good.
        proven: Whether that takes a proof that no message of another server is missing.

    Attributes:
        call: Takes the function's place: an L1 hit at once, anything else through `read`.
        peek: Takes the same arguments, and awaits nothing.
        collect: Takes the same arguments; returns `self` (or `None`) and the values.
        invoke: Calls the original with `self`, the values and the load context.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        parts: Parts,
        table: Table | None,
        *,
        look: Callable[[Any, Arguments, object], tuple[Look, Waiter] | None],
        join: Callable[[Look], Waiter | None],
        read: Callable[[Any, Arguments, Look | None], Coroutine[Any, Any, Any]],
        peek: Callable[[Any, Arguments], Any],
        hits_left: Iterator[None],
        clock: Clock,
        ledger: Ledger,
        recheck: Callable[[Any], bool],
        proven: bool,
    ) -> None:
        self._function = function
        self._parts = parts
        self._table = table
        self._proven = proven
        self._look = look
        self._read = read
        tell, self._now = _time_of(clock, exact=proven)
        self._space: dict[str, Any] = {
            **parts.defaults,
            **_SPACE,
            f"{_RESERVED}function": function,
            f"{_RESERVED}miss": self._miss,
            f"{_RESERVED}go_on": self._go_on,
            f"{_RESERVED}join": join,
            f"{_RESERVED}look_up": peek,
            f"{_RESERVED}hits_left": hits_left,
            f"{_RESERVED}time": tell,
            f"{_RESERVED}ledger": ledger,
            f"{_RESERVED}recheck": recheck,
        }
        self._of_class: dict[type, FunctionType] = {}
        values = _tuple(parts.names)
        self._values = f"{parts.owner}, {values}"
        slots = self._slots()
        space = self._compiled(
            *self._call_lines(slots),
            *self._peek_lines(slots),
            f"def {_RESERVED}collect({parts.header}):",
            f"    return {parts.owner}, {values}",
            f"def {_RESERVED}invoke({_RESERVED}owner, {_RESERVED}values, {_RESERVED}context):",
            f"    return {_RESERVED}function({parts.call})",
        )
        for name in ("peek", "collect"):  # errors about wrong arguments name them
            space[f"{_RESERVED}{name}"].__qualname__ = function.__qualname__
        self.call: Callable[..., Coroutine[Any, Any, Any]] = functools.wraps(function)(
            space[f"{_RESERVED}call"]
        )
        self.peek: Callable[..., Any] = space[f"{_RESERVED}peek"]
        self.collect: Callable[..., tuple[Any, Arguments]] = space[f"{_RESERVED}collect"]
        self.invoke: Callable[[Any, Arguments, LoadContext], Coroutine[Any, Any, Any]] = space[
            f"{_RESERVED}invoke"
        ]

    def _slots(self) -> str | None:
        """Return the source of the dict that has the slots, if there is one."""
        table, owner = self._table, self._parts.owner
        if table is None:
            return None
        if owner == "None":
            self._space[f"{_RESERVED}slots"] = table.slots[type(None)]
            return f"{_RESERVED}slots"
        self._space[f"{_RESERVED}by_class"] = table.slots
        return f"{_RESERVED}by_class[{owner}.__class__]"

    def call_of(self, kind: type) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a `call` of its own for one object; it need not look up the class."""
        made = self._of_class.get(kind)
        if made is None:
            slots = None
            if self._table is not None:
                slots = f"{_RESERVED}slots"
                self._space[slots] = self._table.slots[kind]
            made = self._compiled(*self._call_lines(slots))[f"{_RESERVED}call"]
            self._of_class[kind] = made
        twin = FunctionType(made.__code__, made.__globals__, made.__name__, made.__defaults__)
        twin.__kwdefaults__ = made.__kwdefaults__
        return functools.wraps(self._function)(twin)

    def _compiled(self, *lines: str) -> dict[str, Any]:
        """Run source in a copy of the name space and return that."""
        name = getattr(self._function, "__qualname__", "coroutine")
        space = dict(self._space)
        exec(compile("\n".join(lines), f"<tiercache {name}>", "exec"), space)  # noqa: S102
        return space

    def _call_lines(self, slots: str | None) -> list[str]:
        """Return the source of `call`.

        Args:
            slots: The source of the dict that has the slots.
        """
        if self._table is not None and self._table.by_text:
            slots = None  # It asks whose the slot is; a peek leaves that to its caller.
        # A miss is a coroutine of its own, for the sake of a small frame of this one.
        miss = f"await {_RESERVED}miss({self._values}, {{found}})"
        joined = _joined_lines(self._values, proven=self._proven)
        lines = self._lines(slots, miss, joined)
        return [f"async def {_RESERVED}call({self._parts.header}):", *lines]

    def _peek_lines(self, slots: str | None) -> list[str]:
        """Return the source of `peek`."""
        miss = f"{_RESERVED}look_up({self._values})"
        return [f"def {_RESERVED}peek({self._parts.header}):", *self._lines(slots, miss)]

    def _lines(self, slots: str | None, miss: str, joined: Iterable[str] = ()) -> list[str]:
        """Return the lines that answer a hit, or else by what is said, given what was found."""
        hit = list[str]()
        if slots is not None and self._table is not None:
            hit = _hit_lines(slots, self._table, self._now, miss, joined, proven=self._proven)
        return [*hit, f"    return {miss.format(found=None)}"]

    async def _miss(self, owner: Any, values: Arguments, found: object) -> Any:
        """Answer a call that is no hit; what it has found may be another one's look."""
        begun = self._look(owner, values, found)
        if begun is None:
            return await self._read(owner, values, None)
        look, waiter = begun
        try:
            answer = await waiter
        except asyncio.CancelledError:
            look.left(waiter)
            raise
        return answer if answer is not look else await self._go_on(owner, values, look)

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
    coarse = None if exact or clock is not SYSTEM_CLOCK else coarse_clock()
    if coarse is None:
        return clock.monotonic, f"{_RESERVED}time()"
    tell, argument = coarse
    return tell, f"{_RESERVED}time({argument})"


def _joined_lines(values: str, *, proven: bool) -> list[str]:
    """Return the lines that wait with other calls, as nearly all readers of a stampede do.

    They spell out `_miss`, which would be a coroutine more of each. Without other servers there are
    no looks.
    """
    if not proven:
        return []
    slot, now = f"{_RESERVED}slot", f"{_RESERVED}now"
    proof = f"{now} < {_RESERVED}ledger.proof_deadline"
    # Names of their own would make the frame of each hit larger.
    waiter = answer = now
    return [
        f"    if ({slot}.__class__ is {_RESERVED}Look and {proof}",
        f"        and (not {_RESERVED}running or {_RESERVED}current() is None)",
        f"        and ({waiter} := {_RESERVED}join({slot})) is not None):",
        "        try:",
        f"            {answer} = await {waiter}",
        f"        except {_RESERVED}Cancelled:",
        f"            {slot}.left({waiter})",
        "            raise",
        f"        if {answer} is not {slot}:",
        f"            return {answer}",
        f"        return await {_RESERVED}go_on({values}, {slot})",
    ]


def _hit_lines(
    slots: str, table: Table, clock: str, miss: str, joined: Iterable[str], *, proven: bool
) -> list[str]:
    """Return the lines that answer a hit."""
    slot, ledger, now = f"{_RESERVED}slot", f"{_RESERVED}ledger", f"{_RESERVED}now"
    proof = f" and {now} < {ledger}.proof_deadline" if proven else ""
    if proven:
        clock = f"({now} := {clock})"
    # An argument without a hash cannot be in the table; the key's text has the last word.
    missing = f"{_RESERVED}KeyOrTypeError" if table.unsafe else f"{_RESERVED}KeyError"
    lines = [
        # A subscript costs a hit less than a call of `get`, and what is missing costs more anyway.
        "try:",
        f"    {slot} = {slots}[{table.expression}]",
        f"except {missing}:",
        "    pass",
        "else:",
        f"    if ({clock} < {slot}.soft_deadline{proof}",
        f"        and ({slot}.epoch is {ledger}.epoch or {_RESERVED}recheck({slot}))",
        # While loads run, only the context tells whether this is read inside of one.
        f"        and (not {_RESERVED}running or {_RESERVED}current() is None)):",
        f"        {slot}.visited = True",
        f"        {_RESERVED}next({_RESERVED}hits_left)",
        f"        return {slot}.value",
        *joined,
        f"    return {miss.format(found=slot)}",
    ]
    if table.conditions:
        lines = [f"if {' and '.join(table.conditions)}:", *(f"    {line}" for line in lines)]
    return [f"    {line}" for line in lines]
