"""Structured fields (RFC 9651), parsed as strictly as that says: what is invalid is nothing at all.

Lists and dictionaries, of which cache fields are made. Parameters are checked and dropped, since
none of these fields gives them a meaning.
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, TypeAlias


class Token(str):
    """A word without quotes; a string stands in quotes."""

    __slots__ = ()


Item: TypeAlias = "bool | int | Decimal | str | bytes | tuple[Item, ...]"
"""An inner list is a tuple."""

_KEY: Final = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_NUMBER: Final = re.compile(r"-?(\d{1,15})(?:\.(\d{1,3}))?(?![\d.])")
_STRING: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_BYTES: Final = re.compile(r":([A-Za-z0-9+/=]*):")
_BOOLEAN: Final = re.compile(r"\?([01])")
_DATE: Final = re.compile(r"@(-?\d{1,15})(?![\d.])")
_DISPLAY: Final = re.compile(r'%"((?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*)"')
_ESCAPE: Final = re.compile(r'\\(["\\])')
_INTEGER_DIGITS: Final = 12
"""A number with a fraction has no more digits in front of it."""


class _InvalidError(Exception):
    """The text is no structured field."""


def dictionary_of(lines: Sequence[bytes]) -> dict[str, Item] | None:
    """Return the members of a dictionary over all its lines; `None` if it is not one.

    Example:
        >>> dictionary_of([b"max-age=60, a;x=1", b"no-store=?0"])
        {'max-age': 60, 'a': True, 'no-store': False}
        >>> dictionary_of([b"max-age=60,"]) is None
        True
    """
    found: dict[str, Item] = {}

    def member(text: "_Text") -> None:
        key = text.take(_KEY)[0]
        value: Item = True
        if text.skip("="):
            value = _item_or_list(text)
        else:
            _parameters(text)
        # The last one counts, in the place of the first.
        found[key] = value

    return found if _members(lines, member) else None


def list_of(lines: Sequence[bytes]) -> list[Item] | None:
    """Return the members of a list over all its lines; `None` if it is not one.

    Example:
        >>> list_of([b'"a", "b";x', b"(1 2.5)"])
        ['a', 'b', (1, Decimal('2.5'))]
    """
    found: list[Item] = []

    def member(text: "_Text") -> None:
        found.append(_item_or_list(text))

    return found if _members(lines, member) else None


class _Text:
    """A text and how much of it has been read."""

    __slots__ = ("place", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self.place >= len(self.text)

    @property
    def next(self) -> str:
        """The next character, or nothing."""
        return self.text[self.place : self.place + 1]

    def skip(self, character: str) -> bool:
        """Pass over a character, if it is the next one."""
        is_next = self.next == character
        self.place += is_next
        return is_next

    def skip_all(self, characters: str) -> int:
        """Pass over as many of these characters as there are, and return how many."""
        begin = self.place
        while self.next and self.next in characters:
            self.place += 1
        return self.place - begin

    def take(self, pattern: "re.Pattern[str]") -> "re.Match[str]":
        """Pass over what must come next."""
        found = pattern.match(self.text, self.place)
        if found is None:
            raise _InvalidError
        self.place = found.end()
        return found


def _members(lines: Sequence[bytes], member: Callable[[_Text], None]) -> bool:
    """Read the members between commas; return whether all is well-formed."""
    try:
        text = _Text(b", ".join(lines).decode("ascii"))
        text.skip_all(" ")
        while not text.ended:
            member(text)
            text.skip_all(" \t")
            if not text.ended:
                _next_member(text)
    except (_InvalidError, UnicodeDecodeError):
        return False
    return True


def _next_member(text: _Text) -> None:
    """Pass over a comma, behind which there must be another member."""
    is_comma = text.skip(",")
    text.skip_all(" \t")
    if not is_comma or text.ended:
        raise _InvalidError


def _item_or_list(text: _Text) -> Item:
    if text.next != "(":
        return _item(text)
    text.skip("(")
    items: list[Item] = []
    while True:
        spaces = text.skip_all(" ")
        if text.skip(")"):
            break
        if items and not spaces:
            raise _InvalidError
        items.append(_item(text))
    _parameters(text)
    return tuple(items)


def _item(text: _Text) -> Item:
    value = _bare(text)
    _parameters(text)
    return value


def _parameters(text: _Text) -> None:
    while text.skip(";"):
        text.skip_all(" ")
        text.take(_KEY)
        if text.skip("="):
            _bare(text)


def _bare(text: _Text) -> Item:
    """Return an item without its parameters."""
    first = text.next
    if first == "-" or first.isdigit():
        return _number(text.take(_NUMBER))
    if first == '"':
        return _ESCAPE.sub(r"\1", text.take(_STRING)[1])
    if first == ":":
        return _bytes(text.take(_BYTES)[1])
    if first == "?":
        return text.take(_BOOLEAN)[1] == "1"
    if first == "@":
        return int(text.take(_DATE)[1])
    if first == "%":
        return _display(text.take(_DISPLAY)[1])
    return Token(text.take(_TOKEN)[0])


def _number(found: "re.Match[str]") -> Item:
    whole, fraction = found.groups()
    if fraction is None:
        return int(found[0])
    if len(whole) > _INTEGER_DIGITS:
        raise _InvalidError
    return Decimal(found[0])


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _InvalidError from None


def _display(text: str) -> str:
    raw = re.sub(rb"%([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode())
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _InvalidError from None
