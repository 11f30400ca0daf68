"""Keys that callers write as text, and keys that are too long."""

import enum

import pytest

from async_tiercache.errors import UnkeyableError
from async_tiercache.keys import MAX_CHARACTERS, KeyMaker, check_text


async def load(name: str) -> None: ...


MAKER = KeyMaker(load, "user:{name}")


class Keys(enum.StrEnum):
    MENU = "menu"


@pytest.mark.parametrize(
    "key", ["a", "user:42:profile", "[1:2]", "user:a%3Ab", "s[']", "Jane Doe", "über", "a~b"]
)
def test_text_is_taken_as_it_is(key: str) -> None:
    """What a caller writes is the key."""
    assert check_text(key) == key


def test_member_of_a_str_enum_is_its_text() -> None:
    """Constants may be kept in an enum."""
    key = check_text(Keys.MENU)

    assert (key, type(key)) == ("menu", str)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("", "decorated function"),
        (42, "decorated function"),
        (b"user", "decorated function"),
        (None, "decorated function"),
        ("user:*", "Patterns are for invalidate_pattern()"),
        ("user:?", "Patterns are for invalidate_pattern()"),
        ("user:{user_id}", "f-string"),
        ("a\\b", "%5C"),
        ("a\nb", "%0A"),
        ("a\ud800", "%ED%A0%80"),
        ("a\u202e", "%E2%80%AE"),
    ],
    ids=repr,
)
def test_text_that_no_key_can_have_is_refused(key: object, hint: str) -> None:
    """Not silently matched by nothing."""
    with pytest.raises(UnkeyableError) as caught:
        check_text(key)

    assert hint in caught.value.hint


def test_longest_key_is_kept_whole() -> None:
    """The bound counts characters."""
    text = MAKER.text(("x" * (MAX_CHARACTERS - 5),))

    assert text == "user:" + "x" * (MAX_CHARACTERS - 5)


def test_longer_key_keeps_its_head_and_ends_in_a_digest() -> None:
    """Readable, bounded, stable across processes and releases."""
    text = MAKER.text(("x" * 600,))

    assert len(text) == MAX_CHARACTERS
    assert text == "user:" + "x" * 474 + "~678b2b276c201881d20a4aa651154694"


def test_long_keys_that_differ_at_the_end_differ() -> None:
    """The digest is one of the whole text."""
    assert MAKER.text(("x" * 600 + "a",)) != MAKER.text(("x" * 600 + "b",))


def test_argument_that_spells_a_shortened_key_has_another() -> None:
    """A `~` in a value is escaped, so a digest cannot be forged."""
    long = MAKER.text(("x" * 600,))

    assert MAKER.text((long.removeprefix("user:"),)) != long


def test_long_text_is_shortened_like_a_made_key() -> None:
    """`keys=[text]` equals `.invalidate(...)` for long keys too."""
    assert check_text("user:" + "x" * 600) == MAKER.text(("x" * 600,))


def test_shortening_a_shortened_key_changes_nothing() -> None:
    """What `.key()` returned can be passed as text."""
    text = MAKER.text(("x" * 600,))

    assert check_text(text) == text
