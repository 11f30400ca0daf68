"""The table: where a compiled call finds the slot of its arguments, without making a text."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from async_tiercache._family import Alias, Aliases
from async_tiercache._parts import EXACT, RESERVED, Arguments, Parts

Found: TypeAlias = tuple[str, str]
"""The sources of the dict to look for a slot in, and of its alias or ``None`` if the table must be
asked for that."""


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
            self._dicts[0][type(None)] = texts
        others = [name for name in keyed if name != self._flag_name]
        self._checks = [(parts.names.index(name), parts.guards.get(name)) for name in others]
        self.unsafe = any(name not in parts.guards for name in others)
        self._single = len(others) == 1 and not self.unsafe
        terms: list[str] = []
        self._places: dict[str, int] = {}
        for name in others:
            self._places[name] = len(terms)
            terms += [name] if name in parts.guards else [name, f"{name}.__class__"]
        self.expression = terms[0] if self._single else tuple_of(terms)
        self.conditions = [
            _condition(name, parts.guards[name]) for name in others if name in parts.guards
        ]

    def sources(self, kind: type) -> dict[str, Any]:
        """Return what `found` refers to, for one class of `self`."""
        slots = {f"{RESERVED}slots_{n}": dicts[kind] for n, dicts in enumerate(self._dicts)}
        return {**slots, f"{RESERVED}aliases": self._aliases[0][kind]}

    def sources_by_class(self) -> dict[str, Any]:
        """Return what `found` refers to, for whatever class."""
        slots = {f"{RESERVED}slots_{n}_by_class": dicts for n, dicts in enumerate(self._dicts)}
        return {**slots, f"{RESERVED}aliases_by_class": self._aliases[0]}

    def found(self, owner: str | None = None) -> Found:
        """Spell where the slot of a call is found.

        Args:
            owner: Whose class chooses, too, if that is not settled.
        """
        chosen = "" if owner is None else f"_by_class[{owner}.__class__]"
        spelled = f"{RESERVED}slots_{{}}{chosen}"
        name, first = self._flag_name, spelled.format(0)
        if name:
            other = f"{first} if {name} is False else {RESERVED}nothing"
            return f"({spelled.format(1)} if {name} is True else {other})", "None"
        alias = f"({RESERVED}aliases{chosen}, {self.expression})"
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


def tuple_of(names: Iterable[str]) -> str:
    """Spell a tuple of names."""
    return "(" + "".join(f"{name}, " for name in names) + ")"


def _condition(name: str, guard: type) -> str:
    """Spell that a parameter has exactly a class."""
    if guard is bool:  # of which there are two, and that is asked faster
        return f"({name} is True or {name} is False)"
    return f"{name}.__class__ is {RESERVED}{guard.__name__}"
