"""Make the text of a key from a call's arguments, so that different calls never share a text.

Pure. The decorators build one `KeyMaker` per function; `Template` serves whatever else is spelled
as a template; `check_text` guards keys that callers write themselves. Values are spelled by
`_canonical`; the argument why a whole key is injective: values hold no `:` outside of brackets, so
those of the template separate them. docs/concepts/keys.md is the reference of the format.
"""

import difflib
import hashlib
import inspect
import re
import string
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from types import CellType
from typing import Any, Final, NamedTuple, NewType

from async_tiercache._canonical import (
    INVISIBLE,
    are_plain,
    canonical,
    class_name,
    escape,
    module_name,
    percent,
    type_name,
)
from async_tiercache._signature import signature_of
from async_tiercache.errors import (
    ConfigurationError,
    KeyTemplateError,
    UnkeyableError,
    UsageError,
)

__all__ = [
    "MAX_CHARACTERS",
    "KeyMaker",
    "Placeholder",
    "Template",
    "canonical",
    "check_text",
    "escape",
    "scope_text",
]

MAX_CHARACTERS: Final = 512
"""No made key is longer; one that would be keeps its head and ends in ``~`` and a digest."""

_NOT_IN_LITERAL = re.compile(rf"[%*?\[\]\\'\"~{INVISIBLE}]")
_NOT_IN_KEY = re.compile(rf"[*?{{}}\\{INVISIBLE}]")


def _bounded(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return f"{text[: MAX_CHARACTERS - len(digest) - 1]}~{digest}"


def check_text(key: object, *, what: str = "key") -> str:
    """Return a key or tag that a caller wrote as text; a long one shortened like a made one.

    Raises:
        UnkeyableError: It is not a str, is empty, or holds a character that no key can hold.

    Example:
        >>> check_text("user:42:profile")
        'user:42:profile'
    """
    if not isinstance(key, str) or not key:
        given = type_name(type(key)) if key != "" else "an empty one"
        raise UnkeyableError(
            f"A {what} must be a str that is not empty, not {given}",
            hint="Write the text, or let the decorated function make it: profile.key(42).",
        )
    text = str.__str__(key)
    bad = _NOT_IN_KEY.search(text)
    if bad is None:
        return _bounded(text)
    hint = f"To mean the character itself, write {percent(bad[0])}."
    if bad[0] in "*?":
        hint = f"Patterns are for invalidate_pattern(). {hint}"
    elif bad[0] in "{}":
        hint = f"Placeholders are filled in decorators only; here use an f-string. {hint}"
    raise UnkeyableError(f"{bad[0]!r} cannot stand in the {what} {text!r}", hint=hint)


class Placeholder(NamedTuple):
    """One ``{name.path}`` of a template; the path may be empty."""

    name: str
    path: str

    def of(self, root: object) -> object:
        """Return the value that stands in the key.

        Raises:
            UnkeyableError: The object has no such attribute.
        """
        if not self.path:
            return root
        try:
            return attrgetter(self.path)(root)
        except AttributeError as error:
            raise UnkeyableError(
                f"{{{self}}} has no value: {error}",
                hint="The object must have the attribute whenever the function is called.",
            ) from error

    def __str__(self) -> str:
        return f"{self.name}.{self.path}" if self.path else self.name


class Template:
    """A key template such as ``"user:{user_id}:profile"``, parsed and checked.

    Attributes:
        template: As it was written.
        placeholders: In order; ``{self.table}`` has the name ``self``.
        literals: The fixed texts around them, one more than there are placeholders.

    Raises:
        KeyTemplateError: It is malformed, or two values could run into each other.

    Example:
        >>> Template("user:{user_id}:profile").text({"user_id": 42})
        'user:42:profile'
    """

    __slots__ = ("_parts", "literals", "placeholders", "template")

    def __init__(self, template: str) -> None:
        self.template = template
        literals, placeholders = [""], list[Placeholder]()
        if "{{" in template or "}}" in template:
            raise self._error("holds a literal brace", "Redis Cluster gives braces a meaning.")
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise self._error(f"is malformed: {error}", "Write placeholders as {name}.") from error
        for literal, field, spec, conversion in parsed:
            literals[-1] += literal
            if field is None:
                continue
            if spec or conversion:
                raise self._error(
                    f"formats {{{field}}}", f"Write {{{field}}}: the text of a value is fixed."
                )
            placeholders.append(self._placeholder(field))
            literals.append("")
        self.literals = tuple(literals)
        self.placeholders = tuple(placeholders)
        self._parts = tuple(zip(placeholders, literals[1:], strict=True))
        self._check_literals()

    def __repr__(self) -> str:
        return f"Template({self.template!r})"

    def check(self, parameters: Collection[str]) -> None:
        """Check that every placeholder is one of the parameters.

        Raises:
            KeyTemplateError: One is not.
        """
        for placeholder in self.placeholders:
            if placeholder.name not in parameters:
                raise self._error(
                    f"uses {{{placeholder.name}}}, which is no parameter",
                    _did_you_mean(placeholder.name, parameters),
                )

    def text(
        self,
        values: Mapping[str, object],
        spell: Callable[[object], str] = canonical,
        *,
        first: str = "",
    ) -> str:
        """Return the text with each placeholder's value spelled.

        Args:
            values: By parameter name, `self` among them.
            spell: Spells a value.
            first: What comes before it, and is shortened with it.

        Raises:
            UnkeyableError: A value has no text.
        """
        parts = [first, self.literals[0]]
        for placeholder, literal in self._parts:
            try:
                parts.append(spell(placeholder.of(values[placeholder.name])))
            except UnkeyableError as error:
                raise _named(error, placeholder.name, self.template) from error
            parts.append(literal)
        return _bounded("".join(parts))

    def _placeholder(self, field: str) -> Placeholder:
        name, _, path = field.partition(".")
        parts = field.split(".")
        if not all(part.isidentifier() for part in parts):
            raise self._error(
                f"holds {{{field}}}", "A placeholder is {parameter} or {parameter.attribute}."
            )
        if any(part.startswith("_") for part in parts[1:]):
            raise self._error(f"uses a private attribute in {{{field}}}", "Make it public.")
        if field == "self":
            raise self._error("uses {self}", "Use one of its attributes, such as {self.table}.")
        return Placeholder(name, path)

    def _check_literals(self) -> None:
        bad = _NOT_IN_LITERAL.search("".join(self.literals))
        if bad is not None:
            raise self._error(
                f"holds {bad[0]!r}", "Use letters, digits and signs such as : / . - _ = in it."
            )
        if not any(self.literals):
            raise self._error("has no fixed text", 'Name the family: "user:{user_id}".')
        for before, literal, after in zip(
            self.placeholders, self.literals[1:], self.placeholders[1:], strict=False
        ):
            if ":" not in literal:
                raise self._error(
                    f"has no ':' between {{{before}}} and {{{after}}}: calls could share a text",
                    f"Write {{{before}}}:{{{after}}}; in values a ':' is escaped.",
                )

    def _error(self, message: str, hint: str) -> KeyTemplateError:
        return KeyTemplateError(f"The template {self.template!r} {message}", hint=hint)


KeyText = NewType("KeyText", str)
"""A parameter so annotated is the whole text of the key, and the template only the family's name.

For parts of this project that make their own texts: L1 then holds each of them once.
"""


class KeyMaker:
    """The keys of one function: made when it is decorated, asked at each call.

    Args:
        function: The coroutine function; `self` as its first parameter makes it a method.
        template: The text with placeholders. None makes a key of the function's name, the runtime
            class of `self` and all arguments.
        exclude: Parameters that do not stand in the key.
        scope: Returns what tells objects apart whose keys must differ, from `self`; it comes first
            in the key.
        hidden: The parameter that the cache itself passes, if there is one.

    Attributes:
        template: As given.
        name: The name of the family: the template, or the function's module and qualified name.
        parameters: The parameters that stand in the key, in the order of the text, without `self`.
        definer: The module and the qualified name of what the function stands in: a method's class.
        is_method: Whether `text` needs the owner.
        is_plain: Whether the arguments stand in the key themselves, none by an attribute.
        uses_self: Whether the key holds more of `self` than its class.

    Raises:
        ConfigurationError: The function, the template and the excluded names do not fit together.
    """

    __slots__ = (
        "_by_class",
        "_format",
        "_in_order",
        "_one_class",
        "_only",
        "_picks",
        "_scope",
        "_verified",
        "definer",
        "is_method",
        "is_plain",
        "name",
        "parameters",
        "template",
        "uses_self",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        template: str | None,
        *,
        exclude: Collection[str] = (),
        scope: Callable[[Any], object] | None = None,
        hidden: str | None = None,
    ) -> None:
        names = [name for name in _parameter_names(function) if name != hidden]
        module, qualname = function.__module__, function.__qualname__
        self.template = template
        self.is_method = names[:1] == ["self"]
        if self.is_method:
            del names[0]
        elif scope is not None:
            raise ConfigurationError(
                f"{qualname} has no self that scope= could look at",
                hint="Put the argument that tells its values apart into the key.",
            )
        _check_exclude(exclude, names)
        keyed = [name for name in names if name not in exclude]
        self._by_class = self.is_method and template is None
        if template is None:
            _refuse_closure(function)
            self.name = f"{module_name(module)}.{qualname}"
            placeholders = [Placeholder(name, "") for name in keyed]
            start = escape(self.name).replace("%", "%%")
            self._format = ":".join([start] + ["%s"] * (self._by_class + len(keyed)))
        else:
            parsed = Template(template)
            parsed.check(("self", *names) if self.is_method else names)
            placeholders = list(parsed.placeholders)
            _check_complete(parsed, keyed, exclude)
            self.name = template
            self._format = "%s".join(parsed.literals)
        self.parameters = tuple(
            dict.fromkeys(item.name for item in placeholders if item.name != "self")
        )
        self._scope = scope
        self.uses_self = scope is not None or any(item.name == "self" for item in placeholders)
        self.is_plain = not any(item.path for item in placeholders)
        self._picks = [(names.index(i.name) if i.name != "self" else -1, i) for i in placeholders]
        self._in_order = [str(item) for item in placeholders] == names
        alone = len(placeholders) == 1 and not self._by_class and not placeholders[0].path
        self._only = self._picks[0][0] if alone else None
        self.definer = (module, qualname.rpartition(".")[0])
        by_self = any(item.name == "self" for item in placeholders)
        self._one_class = self.is_method and not self._by_class and not by_self
        self._verified: type | None = None

    def __repr__(self) -> str:
        return f"<KeyMaker {self.name!r} of ({', '.join(self.parameters)})>"

    def text(self, args: tuple[object, ...], owner: object | None = None) -> str:
        """Return the key of one call.

        Args:
            args: The values of all parameters but `self`, in the order of the signature, with
                defaults applied; ``*args`` as one tuple, ``**kwargs`` as one dict.
            owner: The `self` of a method.

        Raises:
            UnkeyableError: An argument has no text; the error names the parameter.
            UsageError: Instances of two classes would share the key.
        """
        try:
            if self._only is not None:
                value = args[self._only]
                try:
                    text = self._format % (value if type(value) is int else canonical(value))
                except ValueError:  # An int of too many digits: that says so.
                    text = self._format % canonical(value)
            else:
                texts = map(canonical, args if self._in_order else self._picked(args, owner))
                start = (class_name(type(owner)),) if self._by_class else ()
                text = self._format % (*start, *texts)
            if self._scope is not None:
                text = f"{scope_text(self._scope, owner)}:{text}"
        except UnkeyableError as error:
            raise self._located(error, args, owner) from error
        if self._one_class and type(owner) is not self._verified:
            self._verify(type(owner))
        return text if len(text) <= MAX_CHARACTERS else _bounded(text)

    def again(
        self, prefix: str, kind: type, places: Mapping[str, int] | None
    ) -> Callable[[Any], str]:
        """Return what makes the text of a key again; of one that is `is_plain`, not `uses_self`.

        It makes another one of a key that was too long.

        Args:
            prefix: What comes before it.
            kind: The class of the owner.
            places: Where it finds the value of each of `parameters`; `None` if it gets the only one
                bare.
        """
        form = self._format
        if self._by_class:
            form = form.replace("%s", class_name(kind).replace("%", "%%"), 1)
        form = prefix.replace("%", "%%") + form
        if places is None:
            return lambda value: form % (value if value.__class__ is int else canonical(value))
        order = [places[item.name] for _, item in self._picks]
        return lambda values: form % tuple([canonical(values[place]) for place in order])

    def texts(
        self,
        place: int,
        values: Sequence[object],
        call: Callable[[object], tuple[object, ...]],
        owner: object | None = None,
    ) -> list[str]:
        """Return the keys of calls that differ in one argument: at once, where that makes each.

        Args:
            place: Which one.
            values: Those of this argument.
            call: Returns for each of them what `text` takes.
            owner: The `self` of a method.

        Raises:
            UnkeyableError: An argument has no text; the error names the parameter.
            UsageError: Instances of two classes would share the key.
        """
        form = self._format
        verified = not self._one_class or type(owner) is self._verified
        if self._only == place and self._scope is None and verified:
            with suppress(ValueError):  # of an int with more digits than there may be
                texts = [form % value for value in values] if are_plain(values) else []
                if texts and max(map(len, texts)) <= MAX_CHARACTERS:
                    return texts
        return [self.text(call(value), owner) for value in values]

    def texts_beside(self, place: int, args: tuple[object, ...]) -> tuple[str, ...]:
        """Return the texts of what the key of one call holds of all arguments but one.

        Args:
            place: Which one is left out.
            args: As for `text`.
        """
        kept = ((index, item) for index, item in self._picks if index not in (-1, place))
        return tuple(canonical(item.of(args[index])) for index, item in kept)

    def _picked(self, args: tuple[object, ...], owner: object) -> list[object]:
        return [item.of(owner if index < 0 else args[index]) for index, item in self._picks]

    def _located(
        self, error: UnkeyableError, args: tuple[object, ...], owner: object
    ) -> UnkeyableError:
        for index, item in self._picks:
            try:
                canonical(item.of(owner if index < 0 else args[index]))
            except UnkeyableError as found:
                return _named(found, item.name, self.name)
        return _named(error, "self", self.name) if self._by_class else error

    def _verify(self, kind: type[Any]) -> None:
        if (kind.__module__, kind.__qualname__) != self.definer:
            raise UsageError(
                f"{type_name(kind)} and {'.'.join(self.definer)} would share the keys of "
                f"the template {self.template!r}",
                hint="Put what tells the classes apart into the template, such as "
                "{self.table}, or leave the template out: default keys hold the class.",
            )
        self._verified = kind


class TextMaker(KeyMaker):
    """The keys of a function that takes their texts."""

    __slots__ = ()

    def text(self, args: tuple[object, ...], owner: object | None = None) -> str:
        """Return the key of one call."""
        del owner
        (place, _), *_ = self._picks
        return str(args[place])

    def again(
        self, prefix: str, kind: type, places: Mapping[str, int] | None
    ) -> Callable[[Any], str]:
        """Return what makes the text of a key again."""
        del kind
        (place,) = (None,) if places is None else places.values()
        return lambda value: prefix + str(value if place is None else value[place])


def scope_text(scope: Callable[[Any], object], owner: object) -> str:
    """Return what comes first in the keys of an object, for a family with a scope.

    Raises:
        UnkeyableError: The object lacks what the scope asks for, or that has no text.
    """
    try:
        found = scope(owner)
    except AttributeError as error:
        raise UnkeyableError(
            f"scope= finds nothing in a {type_name(type(owner))}: {error}",
            hint="The object must have the attribute whenever a key of it is made. Where another "
            "class shares the template, write what its scope returns into the key.",
        ) from error
    try:
        return canonical(found)
    except UnkeyableError as error:
        raise UnkeyableError(
            f"What scope= returns cannot stand in a key: {error.args[0]}",
            hint="Return a plain value, such as self.tenant.name.",
        ) from error


def _parameter_names(function: Callable[..., Any]) -> list[str]:
    if isinstance(function, classmethod | staticmethod):
        raise ConfigurationError(
            "A key is made for a function, not for what classmethod or staticmethod returns",
            hint="Decorate a function or an instance method; put @staticmethod above.",
        )
    names = list(signature_of(function).parameters)
    scope = function.__qualname__.rpartition(".")[0]
    if names[:1] == ["cls"] and scope and not scope.endswith("<locals>"):
        raise ConfigurationError(
            f"{function.__qualname__} is a classmethod",
            hint="Decorate a function or an instance method.",
        )
    return names


def _refuse_closure(function: Callable[..., Any]) -> None:
    """Refuse a function without a template whose name does not tell what it returns."""
    if inspect.ismethod(function):
        raise ConfigurationError(
            f"{function.__qualname__} needs a template: it is bound to one object, and its default "
            "keys would be shared with every other",
            hint="Decorate the method in its class, or give it a template.",
        )
    captured: set[str] = set()
    layer: Any = function
    while layer is not None:
        wrapped = getattr(layer, "__wrapped__", None)
        names = getattr(getattr(layer, "__code__", None), "co_freevars", ())
        cells = getattr(layer, "__closure__", None) or ()
        for name, cell in zip(names, cells, strict=True):
            if name != "__class__" and not (wrapped is not None and _holds(cell, wrapped)):
                captured.add(name)
        layer = wrapped
    if captured:
        raise ConfigurationError(
            f"{function.__qualname__} needs a template: it captures {', '.join(sorted(captured))}, "
            "and functions that capture other values would share its default keys",
            hint="Give it a template, with what tells them apart if they differ.",
        )


def _holds(cell: CellType, value: object) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:  # it is filled later, by a function that calls itself
        return False


def _check_exclude(exclude: Collection[str], names: Sequence[str]) -> None:
    if isinstance(exclude, str):
        raise ConfigurationError(
            f"exclude={exclude!r} is one str", hint=f"Write exclude=({exclude!r},)."
        )
    for name in exclude:
        if name == "self":
            raise ConfigurationError("exclude names 'self'", hint="It never stands in the key.")
        if name not in names:
            raise ConfigurationError(
                f"exclude names {name!r}, which is no parameter", hint=_did_you_mean(name, names)
            )


def _check_complete(template: Template, keyed: Sequence[str], exclude: Collection[str]) -> None:
    used = {item.name for item in template.placeholders}
    for name in keyed:
        if name not in used:
            raise KeyTemplateError(
                f"The template {template.template!r} lacks {{{name}}}: two calls that differ only "
                f"in {name!r} would share one entry",
                hint=f"Add {{{name}}}, or pass exclude=({name!r},) if it does not change the "
                "result.",
            )
    both = used.intersection(exclude)
    if both:
        raise KeyTemplateError(
            f"The template {template.template!r} uses {', '.join(sorted(both))}, which exclude "
            "names",
            hint="Take it out of one of them.",
        )


def _did_you_mean(name: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    known = f"The parameters are {', '.join(names)}." if names else "There are no parameters."
    return f"Did you mean {close[0]!r}? {known}" if close else known


def _named(error: UnkeyableError, parameter: str, name: str) -> UnkeyableError:
    return UnkeyableError(
        f"Parameter {parameter!r} of {name}: {error.args[0]}",
        parameter=parameter,
        hint=error.hint,
    )
