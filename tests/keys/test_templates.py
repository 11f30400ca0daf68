"""Templates: what they may hold, and why two calls never share a text."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.errors import ConfigurationError, KeyTemplateError, UnkeyableError
from async_tiercache.keys import Template, canonical


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("users", "users"),
        ("user:{a}", "user:1"),
        ("user:{a}:profile", "user:1:profile"),
        ("v{a}:{b}", "v1:x"),
        ("{a}:{b}", "1:x"),
        ("a/b-c_d.e=f {a}", "a/b-c_d.e=f 1"),
        ("{b}:{a}:{b}", "x:1:x"),
        ("{o.id}:{o.sub.name}", "7:n"),
        ("über:{a}", "über:1"),
    ],
)
def test_placeholders_are_filled_with_the_text_of_values(template: str, text: str) -> None:
    """The rest of the template stands as it is."""
    values = {"a": 1, "b": "x", "o": SimpleNamespace(id=7, sub=SimpleNamespace(name="n"))}

    assert Template(template).text(values) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "no fixed text"),
        ("{a}", "no fixed text"),
        ("x{a}{b}", "no ':' between {a} and {b}"),
        ("x:{a}-{b}", "no ':' between {a} and {b}"),
        ("x:{{a}}", "literal brace"),
        ("x:{a", "malformed"),
        ("x:a}", "malformed"),
        ("x:{}", "placeholder is"),
        ("x:{0}", "placeholder is"),
        ("x:{a[0]}", "placeholder is"),
        ("x:{a()}", "placeholder is"),
        ("x:{a..b}", "placeholder is"),
        ("x:{a:03d}", "formats {a}"),
        ("x:{a!r}", "formats {a}"),
        ("x:{a._b}", "private"),
        ("x:{a.__class__}", "private"),
        ("x:{self}", "uses {self}"),
        ("x*:{a}", r"holds '\*'"),
        ("x?:{a}", r"holds '\?'"),
        ("x[:{a}", r"holds '\['"),
        ("x]:{a}", r"holds '\]'"),
        ("x\\:{a}", "holds"),
        ("x%:{a}", "holds '%'"),
        ("x':{a}", "holds"),
        ('x":{a}', "holds"),
        ("x~:{a}", "holds '~'"),
        ("x\n:{a}", "holds"),
        ("x\u202e:{a}", "holds"),
    ],
)
def test_template_that_could_be_ambiguous_or_unsafe_is_refused(template: str, message: str) -> None:
    """Refused when it is parsed, with what to write instead."""
    with pytest.raises(KeyTemplateError, match=message) as caught:
        Template(template)

    assert caught.value.hint


def test_unknown_placeholder_names_the_parameter_that_was_meant() -> None:
    """A typing error is found when the decorator is applied."""
    with pytest.raises(KeyTemplateError, match="user_id") as caught:
        Template("user:{usr_id}").check(["user_id", "limit"])

    assert "Did you mean 'user_id'?" in caught.value.hint
    assert "limit" in caught.value.hint


def test_not_all_parameters_need_stand_in_a_writers_template() -> None:
    """`check` asks only that the placeholders exist."""
    Template("user:{user_id}").check(["user_id", "name"])


def test_missing_attribute_is_refused_with_its_parameter() -> None:
    """An attribute that is not there has no text."""
    with pytest.raises(UnkeyableError, match=r"user\.id") as caught:
        Template("user:{user.id}").text({"user": None})

    assert caught.value.parameter == "user"


def test_template_errors_are_configuration_errors() -> None:
    """One except clause catches what is wrong with a decorator."""
    assert issubclass(KeyTemplateError, ConfigurationError)


ARGUMENTS = st.one_of(
    st.text(alphabet="a:-'[]%xb1", max_size=4),
    st.integers(-2, 12),
    st.none(),
    st.binary(max_size=1),
    st.lists(st.text(alphabet="a:", max_size=2), max_size=2),
)
LITERALS = st.text(alphabet=":-xtb1.", max_size=3)


@given(st.data(), st.integers(1, 3))
def test_accepted_template_is_injective(data: st.DataObject, count: int) -> None:
    """Two different tuples of values never fill one template with one text."""
    literals = data.draw(st.lists(LITERALS, min_size=count + 1, max_size=count + 1))
    names = [f"p{index}" for index in range(count)]
    pieces = [f"{literal}{{{name}}}" for literal, name in zip(literals, names, strict=False)]
    try:
        template = Template("".join(pieces) + literals[-1])
    except KeyTemplateError:
        return
    one, other = (data.draw(st.tuples(*[ARGUMENTS] * count)) for _ in range(2))

    texts = [template.text(dict(zip(names, values, strict=True))) for values in (one, other)]

    same = [canonical(value) for value in one] == [canonical(value) for value in other]
    assert (texts[0] == texts[1]) == same
