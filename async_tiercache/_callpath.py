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
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import Any, Final, Literal, NewType, TypeAlias
from uuid import UUID

from async_tiercache._clock import SYSTEM_CLOCK, fastest_clock
from async_tiercache._context import LoadContext
from async_tiercache._family import Alias, Aliases
from async_tiercache._inside import CURRENT, RUNNING
from async_tiercache._ledger import Ledger
from async_tiercache._look import Look, Waiter
from async_tiercache.abc import Clock
from async_tiercache.errors import ConfigurationError

Arguments: TypeAlias = tuple[object, ...]
Found: TypeAlias = tuple[str, str]
"""The sources of the dict to look for a slot in, and of its alias or ``None`` if the table must be
asked for that."""
Missed: TypeAlias = Callable[[str, str], list[str]]
"""Returns the lines for what is no hit, from the source of what was found, and of where."""

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
    f"{_RESERVED}nothing": dict[Any, Any](),
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
    """Where the call path finds slots by the bare arguments: dicts for each class of `self`.

    The first parameter that is annotated as a `bool` chooses one of two: which of the two values
    it has must be asked in any case, and then it need be neither hashed nor compared. Where there
    is no slot there may be the look that a call with these arguments has begun.

    Args:
        parts: The parameter list.
        keyed: The parameters that stand in the key, in order.
        text: Returns what makes the text of a key again from what stands for it in a dict, by the
            class of `self` and the places of the values of `keyed` in that, if it is a tuple.
        texts: L1 itself, for a function whose only such parameter is the key's text: its slots have
            no other name, and another family's may be among them.

    Attributes:
        by_text: Whether its only dict is L1 itself.
        expression: The source of the key in the chosen dict.
        conditions: The source of what must hold before that is asked.
        unsafe: Whether asking may raise `TypeError`, for an argument without a hash.
    """

    __slots__ = (
        "_aliases",
        "_checks",
        "_dicts",
        "_flag",
        "_flag_name",
        "_places",
        "_single",
        "_text",
        "by_text",
        "conditions",
        "expression",
        "unsafe",
    )

    def __init__(
        self,
        parts: Parts,
        keyed: Collection[str],
        *,
        text: Callable[[type, Mapping[str, int] | None], Callable[[Any], str]],
        texts: dict[str, Any] | None = None,
    ) -> None:
        flags = [name for name in keyed if parts.guards.get(name) is bool]
        self._flag_name = flags[0] if flags else ""
        self._flag = parts.names.index(flags[0]) if flags else None
        self._text = text
        self._dicts = [_ByClass() for _ in range(2 if flags else 1)]
        """One for all, or one for each value of the flag."""
        self._aliases = [_AliasesByClass(self, flag) for flag in (False, True)[: len(self._dicts)]]
        self.by_text = texts is not None
        if texts is not None:
            self._dicts[0][_NONE_TYPE] = texts
        others = [name for name in keyed if name != self._flag_name]
        self._checks = [(parts.names.index(name), parts.guards.get(name)) for name in others]
        self.unsafe = any(name not in parts.guards for name in others)
        self._single = len(others) == 1 and not self.unsafe
        terms: list[str] = []
        self._places: dict[str, int] = {}
        for name in others:
            self._places[name] = len(terms)
            terms += [name] if name in parts.guards else [name, f"{name}.__class__"]
        self.expression = terms[0] if self._single else _tuple(terms)
        self.conditions = [
            _condition(name, parts.guards[name]) for name in others if name in parts.guards
        ]

    def sources(self, kind: type) -> dict[str, Any]:
        """Return what `found` refers to, for one class of `self`."""
        slots = {f"{_RESERVED}slots_{n}": dicts[kind] for n, dicts in enumerate(self._dicts)}
        return {**slots, f"{_RESERVED}aliases": self._aliases[0][kind]}

    def sources_by_class(self) -> dict[str, Any]:
        """Return what `found` refers to, for whatever class."""
        slots = {f"{_RESERVED}slots_{n}_by_class": dicts for n, dicts in enumerate(self._dicts)}
        return {**slots, f"{_RESERVED}aliases_by_class": self._aliases[0]}

    def found(self, owner: str | None = None) -> Found:
        """Spell where the slot of a call is found.

        Args:
            owner: Whose class chooses, too, if that is not settled.
        """
        chosen = "" if owner is None else f"_by_class[{owner}.__class__]"
        spelled = f"{_RESERVED}slots_{{}}{chosen}"
        name, first = self._flag_name, spelled.format(0)
        if name:
            other = f"{first} if {name} is False else {_RESERVED}nothing"
            return f"({spelled.format(1)} if {name} is True else {other})", "None"
        alias = f"({_RESERVED}aliases{chosen}, {self.expression})"
        # Equal values of any class need not have equal texts.
        return first, "None" if self.unsafe else alias

    def alias(self, owner: object, values: Arguments) -> Alias | None:
        """Return where a call looks for its slot; `None` if equal arguments may differ in text.

        Nor is there an alias where the text itself is looked for.
        """
        if self.by_text:
            return None
        flag = False if self._flag is None else values[self._flag]
        if flag is not True and flag is not False:
            return None
        terms: list[object] = []
        for index, guard in self._checks:
            value = values[index]
            kind = type(value)
            if (kind is not guard) if guard is not None else (kind not in EXACT):
                return None
            terms += [value] if guard is not None else [value, kind]
        return self._aliases[flag][type(owner)], terms[0] if self._single else tuple(terms)

    def aliases(self, kind: type, flag: bool) -> Aliases:
        """Return what finds the slots of calls with one class of `self` and one value of the flag.

        Args:
            kind: The class.
            flag: The value; `False` without a flag.
        """
        slots = self._dicts[flag][kind]
        if self._flag is None:
            places = None if self._single else self._places
            return Aliases(slots, self._text(kind, places))
        # The flag stands in no key of the dicts, but in the text.
        places = {name: place + 1 for name, place in self._places.items()}
        text = self._text(kind, {**places, self._flag_name: 0})
        if self._single:
            return Aliases(slots, lambda value: text((flag, value)))
        return Aliases(slots, lambda values: text((flag, *values)))


class _ByClass(dict[type, dict[Any, Any]]):
    """Makes the dict of a class when its first call comes."""

    __slots__ = ()

    def __missing__(self, kind: type) -> dict[Any, Any]:
        slots = self[kind] = {}
        return slots


class _AliasesByClass(dict[type, Aliases]):
    """Makes those of a class when its first call comes.

    Args:
        table: Whose they are.
        flag: For which value of its flag.
    """

    __slots__ = ("_flag", "_table")

    def __init__(self, table: Table, flag: bool) -> None:
        super().__init__()
        self._table = table
        self._flag = flag

    def __missing__(self, kind: type) -> Aliases:
        aliases = self[kind] = self._table.aliases(kind, self._flag)
        return aliases


class CallPath:
    """The compiled functions of one decorated coroutine.

    Args:
        function: The decorated coroutine function.
        parts: Its parameter list.
        table: Where slots are found by the bare arguments; `None` always goes through `read`.
        look: Looks into L2 for a call that is no hit, from `self`, the values, what was found, and
            where it was looked for if that is known.
        join: Lets a call wait with others that have the same arguments, if it may.
        read: Answers a call that had no value from there.
        peek: Answers who does not wait, from `self` and the values, where the table cannot.
        hits_left: Goes on by one with each hit, and gives what that sets the slot's bit to.
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
        look: Callable[[Any, Arguments, object, Alias | None], tuple[Look, Waiter] | None],
        join: Callable[[Look], Waiter | None],
        read: Callable[[Any, Arguments, Look | None], Coroutine[Any, Any, Any]],
        peek: Callable[[Any, Arguments], Any],
        hits_left: Iterator[Literal[True]],
        clock: Clock,
        ledger: Ledger,
        recheck: Callable[[Any], bool],
        proven: bool,
    ) -> None:
        self._function = function
        self._parts = parts
        self._table = table
        self._proven = proven
        self._read = read
        tell, self._now = _time_of(clock, exact=proven)
        self._space: dict[str, Any] = {
            **parts.defaults,
            **_SPACE,
            f"{_RESERVED}function": function,
            f"{_RESERVED}look": look,
            f"{_RESERVED}read": read,
            f"{_RESERVED}go_on": self._go_on,
            f"{_RESERVED}join": join,
            f"{_RESERVED}look_up": peek,
            f"{_RESERVED}hits_left": hits_left,
            f"{_RESERVED}time": tell,
            f"{_RESERVED}ledger": ledger,
            f"{_RESERVED}recheck": recheck,
        }
        self._of_class: dict[type, tuple[CodeType, dict[str, Any]]] = {}
        values = _tuple(parts.names)
        self._values = f"{parts.owner}, {values}"
        found = self._found()
        space = self._compiled(
            *self._call_lines(found),
            *self._peek_lines(found),
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

    def _found(self) -> Found | None:
        """Return the sources of where slots are found, if they are."""
        table, owner = self._table, self._parts.owner
        if table is None:
            return None
        if owner == "None":
            self._space.update(table.sources(_NONE_TYPE))
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
        return functools.wraps(self._function)(defined[f"{_RESERVED}call"])

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
        missed = partial(_missed_lines, self._values, proven=self._proven)
        return [f"async def {_RESERVED}call({self._parts.header}):", *self._lines(found, missed)]

    def _peek_lines(self, found: Found | None) -> list[str]:
        """Return the source of `peek`."""
        missed = partial(_unpeeked_lines, self._values)
        return [f"def {_RESERVED}peek({self._parts.header}):", *self._lines(found, missed)]

    def _lines(self, found: Found | None, missed: Missed) -> list[str]:
        """Return the lines that answer a hit, or else as it is said."""
        lines = missed("None", "None")
        if found is not None and self._table is not None:
            hit = _hit_lines(found, self._table, self._now, missed, proven=self._proven)
            lines = [*hit, *lines] if self._table.conditions else hit
        return _indented(lines)

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
        return clock.monotonic, f"{_RESERVED}time()"
    tell, argument = fastest
    return tell, f"{_RESERVED}time({argument})"


def _missed_lines(values: str, found: str, alias: str, *, proven: bool) -> list[str]:
    """Return the lines that answer what is no hit.

    They are no coroutine of their own, which would be one more of each reader of a stampede.
    Without other servers there are no looks.

    Args:
        values: The source of `self` and the values.
        found: That of what was found; it may be a look.
        alias: That of where.
        proven: Whether there are other servers.
    """
    read = f"return await {_RESERVED}read({values}, None)"
    if not proven:
        return [read]
    slot, now = f"{_RESERVED}slot", f"{_RESERVED}now"
    # Names of their own would make the frame of each hit larger.
    look, waiter, begun, answer = slot, now, now, now
    waits = [
        "try:",
        f"    {answer} = await {waiter}",
        f"except {_RESERVED}Cancelled:",
        f"    {look}.left({waiter})",
        "    raise",
        f"if {answer} is not {look}:",
        f"    return {answer}",
        f"return await {_RESERVED}go_on({values}, {look})",
    ]
    joins = [
        f"if ({look}.__class__ is {_RESERVED}Look and {now} < {_RESERVED}ledger.epoch.deadline",
        f"    and (not {_RESERVED}running or {_RESERVED}current() is None)",
        f"    and ({waiter} := {_RESERVED}join({look})) is not None):",
        *_indented(waits),
    ]
    return [
        *(joins if found == slot else ()),
        f"{begun} = {_RESERVED}look({values}, {found}, {alias})",
        f"if {begun} is None:",
        f"    {read}",
        f"{look}, {waiter} = {begun}",
        *waits,
    ]


def _unpeeked_lines(values: str, _found: str, _alias: str) -> list[str]:
    """Return the lines that answer who does not wait."""
    return [f"return {_RESERVED}look_up({values})"]


def _hit_lines(
    found: Found, table: Table, clock: str, missed: Missed, *, proven: bool
) -> list[str]:
    """Return the lines that answer a hit, or else as it is said, if they can tell."""
    slots, alias = found
    slot, recheck = f"{_RESERVED}slot", f"{_RESERVED}recheck({_RESERVED}slot)"
    good = f"{slot}.epoch.over is None or {recheck}"
    if proven:
        clock = f"({_RESERVED}now := {clock})"
        proof = f"{_RESERVED}now < {slot}.epoch.deadline"
        good = f"{proof} or ({recheck} and {proof})"
    # An argument without a hash cannot be in the table; the key's text has the last word.
    missing = f"{_RESERVED}KeyOrTypeError" if table.unsafe else f"{_RESERVED}KeyError"
    lines = [
        # A subscript costs a hit less than a call of `get`, and what is missing costs more anyway.
        # Below the `try` it would cost an instruction that does nothing.
        f"try: {slot} = {slots}[{table.expression}]",
        f"except {missing}:",
        f"    {slot} = None",
        "else:",
        f"    if ({clock} < {slot}.soft_deadline",
        f"        and ({good})",
        # While loads run, only the context tells whether this is read inside of one.
        f"        and (not {_RESERVED}running or {_RESERVED}current() is None)):",
        f"        {slot}.visited = {_RESERVED}next({_RESERVED}hits_left)",
        f"        return {slot}.value",
        *missed(slot, alias),
    ]
    if table.conditions:
        return [f"if {' and '.join(table.conditions)}:", *_indented(lines)]
    return lines


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
