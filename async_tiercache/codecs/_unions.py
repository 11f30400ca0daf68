"""Unions and literals.

The member of a union is told by the exact type of the value, in both directions. Where two members
look alike on the wire, they and all that stand there as arrays are wrapped as [number, value]. The
order of the members in the annotation has no meaning: `typing` itself does not keep it.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from async_tiercache.codecs._nodes import Converter, Kinds, MismatchError, Node, Side, guard, misfit
from async_tiercache.codecs.msgpack import DYNAMIC
from async_tiercache.errors import ConfigurationError


def union(members: Sequence[Node]) -> Node:
    """Return the node of a union; of one member, that member."""
    by_schema = {member.schema: member for member in members}
    schema = " | ".join(sorted(by_schema))
    branches = _branches([by_schema[name] for name in sorted(by_schema)])
    if len(branches) == 1:
        return replace(branches[0], schema=schema)
    tagged = _tagged(branches)
    return Node(schema, _encoder(schema, branches, tagged), _decoder(schema, branches, tagged))


def _branches(members: list[Node]) -> list[Node]:
    """Return the members that must be told apart: all plain ones are one."""
    late = [member.schema for member in members if member.encode.kinds is None]
    if late:
        raise ConfigurationError(
            f"the recursive alias {late[0]} stands directly in a union inside itself",
            hint="Write the recursion as a model, or add the other members to the alias.",
        )
    others = [member for member in members if not member.plain]
    kinds: Kinds = frozenset[type]().union(
        *(member.encode.kinds or () for member in members if member.plain)
    )
    if any(member.schema == DYNAMIC.schema for member in others):
        assert DYNAMIC.encode.kinds is not None
        kinds -= DYNAMIC.encode.kinds
        # The annotated members are tried before plain data of any form.
        others.sort(key=lambda member: member.schema == DYNAMIC.schema)
    side = Side(kinds, None, kinds)
    return [*others, Node("plain", side, side)] if kinds else others


def _tagged(branches: Sequence[Node]) -> list[bool]:
    seen: dict[type, int] = {}
    for branch in branches:
        for kind in branch.decode.kinds or ():
            seen[kind] = seen.get(kind, 0) + 1
    shared = {kind for kind, count in seen.items() if count > 1}
    if not shared:
        return [False] * len(branches)
    return [bool((branch.decode.kinds or frozenset()) & (shared | {list})) for branch in branches]


def _encoder(schema: str, branches: Sequence[Node], tagged: Sequence[bool]) -> Side:
    table: dict[type, list[Converter]] = {}
    for number, branch in enumerate(branches):
        convert = _tagger(number, branch.encode.convert) if tagged[number] else None
        convert = convert or branch.encode.convert or _same
        for kind in branch.encode.kinds or ():
            table.setdefault(kind, []).append(convert)
    single = {
        kind: found[0] if len(found) == 1 else _first(schema, found)
        for kind, found in table.items()
    }

    def encode(value: Any) -> Any:
        return single[type(value)](value)

    return Side(frozenset(single), encode, _easy(branches, tagged))


def _decoder(schema: str, branches: Sequence[Node], tagged: Sequence[bool]) -> Side:
    table: dict[type, Converter] = {}
    numbered: dict[int, Converter] = {}
    for number, branch in enumerate(branches):
        if tagged[number]:
            numbered[number] = guard(branch.decode, branch.schema)
            continue
        for kind in branch.decode.kinds or ():
            table[kind] = branch.decode.convert or _same

    def untag(wire: list[Any]) -> Any:
        number, value = wire
        if type(number) is not int or number not in numbered:
            raise MismatchError(schema, "an unknown member")
        return numbered[number](value)

    if numbered:
        table[list] = untag

    def decode(wire: Any) -> Any:
        return table[type(wire)](wire)

    return Side(frozenset(table), decode, _easy(branches, tagged))


def _easy(branches: Sequence[Node], tagged: Sequence[bool]) -> Kinds:
    """Return the kinds of the plain branch, which is the last one if there is any."""
    last = branches[-1]
    return last.encode.easy if last.plain and not tagged[-1] else frozenset()


def _same(value: Any) -> Any:
    return value


def _tagger(number: int, convert: Converter | None) -> Converter:
    if convert is None:
        return lambda value: [number, value]
    return lambda value: [number, convert(value)]


def _first(schema: str, converters: Sequence[Converter]) -> Converter:
    """Return a function that tries members in turn: their outer types do not tell them apart."""

    def convert(value: Any) -> Any:
        for candidate in converters:
            try:
                return candidate(value)
            except MismatchError:
                continue
        raise misfit(schema, value)

    return convert


def literal(values: Sequence[Any], text: Callable[[Any], str]) -> Node:
    """Return the node of a `Literal`; enum members stand on the wire by name.

    Args:
        values: Its values.
        text: Returns how one stands in the schema.
    """
    wires: dict[tuple[type, Any], Any] = {
        (type(value), value): f"{type(value).__qualname__}.{value._name_}"
        if isinstance(value, enum.Enum)
        else value
        for value in values
    }
    back: dict[tuple[type, Any], Any] = {
        (type(wire), wire): value for (_, value), wire in wires.items()
    }
    if len(back) != len(wires):
        raise ConfigurationError(
            "a Literal holds an enum member and its own name", hint="Keep one of them."
        )
    schema = f"Literal[{', '.join(sorted(map(text, values)))}]"

    def encode(value: Any) -> Any:
        try:
            return wires[type(value), value]
        except KeyError:
            raise MismatchError(schema, "another value") from None

    def decode(wire: Any) -> Any:
        try:
            return back[type(wire), wire]
        except KeyError:
            raise MismatchError(schema, "another value") from None

    return Node(
        schema,
        Side(frozenset(kind for kind, _ in wires), encode),
        Side(frozenset(kind for kind, _ in back), decode),
    )
