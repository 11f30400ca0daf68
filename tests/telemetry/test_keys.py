"""What stands for keys in logs and spans."""

import pytest

from async_tiercache_integrations._keys import Keys


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        pytest.param("user:1", "no 'user:1' here", "no '{}' here", id="quoted"),
        pytest.param("user:1", "user:1: not found", "{}: not found", id="bare"),
        pytest.param("user:1", "user:12 and my_user:1", "user:12 and my_user:1", id="other keys"),
        pytest.param("a", "a value of 'a'", "a value of '{}'", id="a word"),
        pytest.param("42", "42 rows, key '42'", "42 rows, key '{}'", id="a number"),
        pytest.param("it's:1", 'no "it\'s:1"', "no '{}'", id="with a quote"),
        pytest.param("user:1", "nothing of it", "nothing of it", id="not there"),
        pytest.param("?shop?user:1", "no user:1 in '?shop?user:1'", "no {0} in '{0}'", id="tenant"),
        pytest.param("?shop?", "is there nothing?", "is there nothing?", id="all of a tenant"),
    ],
)
def test_a_key_is_replaced_where_a_text_names_it(key: str, text: str, expected: str) -> None:
    """And nowhere else, or a stack trace could not be read."""
    keys = Keys(show=False)

    assert keys.hidden_in(text, [key]) == expected.format(keys.shown(key))


def test_a_text_stays_as_it_is_when_keys_are_shown() -> None:
    """Whoever asked for keys gets them everywhere."""
    assert Keys(show=True).hidden_in("no 'user:1' here", ["user:1"]) == "no 'user:1' here"
