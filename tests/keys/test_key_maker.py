"""Keys of functions and methods, with a template and without."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.errors import (
    ConfigurationError,
    KeyTemplateError,
    UnkeyableError,
    UsageError,
)
from async_tiercache.keys import KeyMaker

HERE = __name__


async def load(user_id: object, limit: object = 10) -> None: ...


async def everything(first: object, *rest: object, **options: object) -> None: ...


async def nothing() -> None: ...


class Users:
    table = "users"

    async def get(self, user_id: int) -> None: ...

    @classmethod
    async def create(cls, name: str) -> None: ...

    @staticmethod
    async def find(name: str) -> None: ...


class Orders:
    table = "orders"

    async def get(self, user_id: int) -> None: ...


class Repository:
    table = "any"

    async def get(self, key: object) -> None: ...


class Books(Repository):
    table = "books"


class Shelves(Repository):
    table = "shelves"


def capturing(url: str) -> Callable[..., Any]:
    async def fetch(path: str) -> str:
        return url + path

    return fetch


def not_capturing() -> Callable[..., Any]:
    async def fetch(path: str) -> str:
        return path

    return fetch


class TestWithTemplate:
    def test_text_is_the_templates(self) -> None:
        """The key is what the template says, so that it can be written by hand."""
        maker = KeyMaker(load, "user:{user_id}:{limit}")

        assert maker.text((42, 10)) == "user:42:10"

    def test_order_is_the_templates(self) -> None:
        """Placeholders may come in any order and more than once."""
        maker = KeyMaker(load, "{limit}:{user_id}:{limit}")

        assert maker.text((42, 10)) == "10:42:10"
        assert maker.parameters == ("limit", "user_id")
        assert maker.is_plain

    def test_excluded_parameter_does_not_stand_in_it(self) -> None:
        """What is excluded may be unkeyable."""
        maker = KeyMaker(load, "user:{user_id}", exclude=("limit",))

        assert maker.text((42, object())) == "user:42"

    def test_attribute_stands_for_its_parameter(self) -> None:
        """`{user_id.real}` covers `user_id`."""
        maker = KeyMaker(load, "user:{user_id.real}:{limit}")

        assert maker.text((42, 1)) == "user:42:1"
        assert not maker.is_plain

    def test_variadic_parameters_stand_by_their_names(self) -> None:
        """``*rest`` is a tuple, ``**options`` a dict."""
        maker = KeyMaker(everything, "x:{first}:{rest}:{options}")

        assert maker.text((1, (2, 3), {"b": 1, "a": 2})) == "x:1:t[2:3]:d[a:2:b:1]"

    def test_missing_parameter_is_refused(self) -> None:
        """Two calls that differ only in it would share one entry."""
        with pytest.raises(KeyTemplateError, match=r"differ only in 'limit'") as caught:
            KeyMaker(load, "user:{user_id}")

        assert "{limit}" in caught.value.hint
        assert "exclude=('limit',)" in caught.value.hint

    def test_unknown_parameter_is_refused(self) -> None:
        """The hint names the parameters that there are."""
        with pytest.raises(KeyTemplateError, match="userid") as caught:
            KeyMaker(load, "user:{userid}:{limit}")

        assert "user_id, limit" in caught.value.hint

    def test_self_in_a_function_is_refused(self) -> None:
        """A function has no `self`."""
        with pytest.raises(KeyTemplateError, match="no parameter"):
            KeyMaker(load, "{self.table}:{user_id}:{limit}")

    def test_parameter_both_used_and_excluded_is_refused(self) -> None:
        """The two contradict each other."""
        with pytest.raises(KeyTemplateError, match="exclude"):
            KeyMaker(load, "x:{user_id}:{limit}", exclude=("limit",))

    def test_method_key_is_exactly_the_templates(self) -> None:
        """`keys=["user:42"]` equals `.invalidate(42)`."""
        maker = KeyMaker(Users.get, "user:{user_id}")

        assert maker.text((42,), Users()) == "user:42"
        assert (maker.is_method, maker.uses_self) == (True, False)

    def test_subclass_without_self_in_the_template_is_refused(self) -> None:
        """Two subclasses of a generic base would share entries."""
        maker = KeyMaker(Repository.get, "row:{key}")

        for _ in range(2):
            with pytest.raises(UsageError, match="Books") as caught:
                maker.text((1,), Books())
        assert "{self.table}" in caught.value.hint

    def test_refusal_of_a_subclass_leaves_the_class_itself_usable(self) -> None:
        """The verdict is kept per class."""
        maker = KeyMaker(Repository.get, "row:{key}")
        with pytest.raises(UsageError):
            maker.text((1,), Books())

        assert maker.text((1,), Repository()) == "row:1"

    def test_attribute_of_self_tells_subclasses_apart(self) -> None:
        """The template says what does."""
        maker = KeyMaker(Repository.get, "{self.table}:{key}")

        assert maker.text((1,), Books()) == "books:1"
        assert maker.text((1,), Shelves()) == "shelves:1"
        assert (maker.uses_self, maker.parameters) == (True, ("key",))

    def test_closure_may_have_a_template(self) -> None:
        """Whoever names the key knows what the function captures."""
        assert KeyMaker(capturing("http://a"), "a:{path}").text(("x",)) == "a:x"


class TestWithoutTemplate:
    def test_text_names_the_function_and_all_arguments(self) -> None:
        """Positional or by keyword, default or given: the caller binds, the key is one."""
        maker = KeyMaker(load, None)

        assert maker.text((42, 10)) == f"{HERE}.load:42:10"
        assert maker.name == f"{HERE}.load"
        assert maker.parameters == ("user_id", "limit")

    def test_function_without_parameters_has_its_name_as_key(self) -> None:
        """Nothing follows the name."""
        assert KeyMaker(nothing, None).text(()) == f"{HERE}.nothing"

    def test_name_is_escaped(self) -> None:
        """A function may be renamed to anything."""

        async def odd(a: int) -> None: ...

        odd.__module__, odd.__qualname__ = "job 50%", "odd[int]"

        assert KeyMaker(odd, None).text((1,)) == "job 50%25.odd%5Bint%5D:1"

    def test_excluded_parameter_does_not_stand_in_it(self) -> None:
        """The others do."""
        assert KeyMaker(load, None, exclude=["user_id"]).text((object(), 5)) == f"{HERE}.load:5"

    def test_separator_in_an_argument_does_not_move_it(self) -> None:
        """("a:b", "c") is not ("a", "b:c")."""
        maker = KeyMaker(load, None)

        assert maker.text(("a:b", "c")) != maker.text(("a", "b:c"))

    def test_one_method_name_in_two_classes_makes_two_keys(self) -> None:
        """`Users.get(1)` is not `Orders.get(1)`."""
        assert KeyMaker(Users.get, None).text((1,), Users()) == f"{HERE}.Users.get:{HERE}.Users:1"
        assert (
            KeyMaker(Orders.get, None).text((1,), Orders()) == f"{HERE}.Orders.get:{HERE}.Orders:1"
        )

    def test_subclasses_of_a_generic_base_have_their_own_keys(self) -> None:
        """The runtime class stands in the key."""
        maker = KeyMaker(Repository.get, None)

        assert maker.text((1,), Books()) == f"{HERE}.Repository.get:{HERE}.Books:1"
        assert maker.text((1,), Shelves()) == f"{HERE}.Repository.get:{HERE}.Shelves:1"

    def test_two_instances_share_a_key(self) -> None:
        """`self` is not in the key."""
        maker = KeyMaker(Users.get, None)

        assert maker.text((1,), Users()) == maker.text((1,), Users())

    def test_class_made_in_a_function_is_refused(self) -> None:
        """Another class may have its name."""

        class Local(Repository):
            pass

        with pytest.raises(UnkeyableError, match="Local") as caught:
            KeyMaker(Repository.get, None).text((1,), Local())

        assert caught.value.parameter == "self"

    def test_closure_is_refused(self) -> None:
        """Two closures of one function would share entries and return each other's values."""
        with pytest.raises(ConfigurationError, match="captures url") as caught:
            KeyMaker(capturing("http://a"), None)

        assert "template" in caught.value.hint

    def test_local_function_that_captures_nothing_is_accepted(self) -> None:
        """All functions made of it do the same."""
        text = KeyMaker(not_capturing(), None).text(("x",))

        assert text == f"{HERE}.not_capturing.<locals>.fetch:x"

    def test_local_method_that_calls_super_is_no_closure(self) -> None:
        """`super()` captures the class, which stands in the key."""

        class Local(Users):
            async def get(self, user_id: int) -> None:
                await super().get(user_id)

        assert KeyMaker(Local.get, None).is_method


@pytest.mark.parametrize("template", [None, "x:{user_id}:{limit}"], ids=["default", "template"])
def test_unkeyable_argument_is_named(template: str | None) -> None:
    """The error says which parameter it is."""
    with pytest.raises(UnkeyableError, match="Parameter 'limit'") as caught:
        KeyMaker(load, template).text((1, [object()]))

    assert caught.value.parameter == "limit"
    assert caught.value.hint


def test_classmethod_is_refused() -> None:
    """Its class is no argument that a caller passes."""
    with pytest.raises(ConfigurationError, match="classmethod"):
        KeyMaker(Users.__dict__["create"], None)


def test_function_under_a_classmethod_is_refused() -> None:
    """Also when the cache's decorator is the inner one."""
    with pytest.raises(ConfigurationError, match="classmethod"):
        KeyMaker(Users.__dict__["create"].__func__, None)


def test_static_method_is_a_function() -> None:
    """It has no owner."""
    maker = KeyMaker(Users.find, None)

    assert maker.text(("x",)) == f"{HERE}.Users.find:x"


@pytest.mark.parametrize(
    ("exclude", "message"),
    [(("limt",), "limt"), ("limit", "one str"), (("self",), "self")],
    ids=["unknown", "str", "self"],
)
def test_wrong_exclude_is_refused(exclude: tuple[str, ...] | str, message: str) -> None:
    """A name that excludes nothing is a mistake."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        KeyMaker(load, None, exclude=exclude)

    assert caught.value.hint


def test_repr_shows_the_family_and_its_parameters() -> None:
    """The debugging view."""
    assert repr(KeyMaker(load, "u:{limit}:{user_id}")) == (
        "<KeyMaker 'u:{limit}:{user_id}' of (limit, user_id)>"
    )


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3) | st.integers(0, 9))))
def test_keys_of_one_function_are_equal_exactly_for_equal_arguments(
    calls: list[tuple[object, object]],
) -> None:
    """As many keys as there are different calls."""
    maker = KeyMaker(load, None)

    assert len({maker.text(call) for call in calls}) == len(set(calls))


@pytest.mark.parametrize("template", ["u:{user_id}", None])
@given(
    values=st.lists(st.integers())
    | st.lists(st.text(max_size=3))
    | st.lists(st.text("ab", min_size=298, max_size=302))
    | st.lists(st.integers() | st.booleans() | st.text(max_size=3) | st.none())
)
def test_keys_of_many_calls_are_those_of_each(template: str | None, values: list[object]) -> None:
    """Whatever their arguments are, and however long."""

    async def one(user_id: object) -> None: ...

    def call(value: object) -> tuple[object, ...]:
        return (value,) if template else (value, (), {})

    maker = KeyMaker(one if template else everything, template)

    assert maker.texts(0, values, call) == [maker.text(call(value)) for value in values]


def test_an_unkeyable_argument_among_many_is_named() -> None:
    """An int of too many digits for a text, or an object without one, tells its parameter."""

    async def one(user_id: object) -> None: ...

    maker = KeyMaker(one, "u:{user_id}")
    for value in (10**5000, object()):
        with pytest.raises(UnkeyableError, match="user_id"):
            maker.texts(0, [1, value], lambda each: (each,))


def test_one_class_of_several_is_refused_for_many_calls() -> None:
    """As for one call: another class would share the keys."""

    class Other(Users): ...

    maker = KeyMaker(Users.get, "user:{user_id}")

    def texts(owner: Users) -> list[str]:
        return maker.texts(0, [1, 2], lambda each: (each,), owner)

    assert texts(Users()) == texts(Users()) == ["user:1", "user:2"]
    with pytest.raises(UsageError):
        texts(Other())


class TestAgain:
    """A key is made again from what is looked for instead of it."""

    @pytest.mark.parametrize("value", [7, "a:b%", "7", None, True, b"x"])
    def test_of_the_bare_argument(self, value: object) -> None:
        """With or without something before it."""
        maker = KeyMaker(load, "user:{user_id}", exclude=("limit",))

        for prefix in ("", "?50%s?"):
            again = maker.again(prefix, type(None), None)
            assert again(value) == prefix + maker.text((value, 3))

    def test_of_several(self) -> None:
        """Wherever they stand, in the order of the text."""
        maker = KeyMaker(load, "{limit}:{user_id}:{limit}")

        assert maker.parameters == ("limit", "user_id")
        again = maker.again("", type(None), {"limit": 2, "user_id": 0})
        assert again(("u", "unused", 3)) == maker.text(("u", 3)) == "3:u:3"

    def test_with_the_class_of_self(self) -> None:
        """Which is in the key if there is no template."""
        maker = KeyMaker(Users.get, None)

        assert maker.again("", Users, None)(4) == maker.text((4,), Users())
