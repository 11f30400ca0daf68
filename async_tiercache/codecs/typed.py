"""The typed codec: an annotation, compiled once, drives encode and decode.

The law: `decode(encode(value))` equals `value` and has its type, all the way down. What cannot keep
the law is refused, at compile time if the annotation tells, else at encode. Nothing is guessed from
the wire, where a value is what its place in the annotation says.

Accepted besides the annotated types themselves: a `bool` for an `int`, and an `int` for a `float`
or `complex`, which come back as what they were. `Sequence`, `Collection` and `Iterable` take a list
or a tuple, `collections.abc.Set` a set or a frozenset, `Mapping` a dict.
A `TypedDict` comes back with its keys in the order of definition.
"""

import enum
import inspect
import typing
from collections import abc
from collections.abc import Sequence
from hashlib import blake2b
from traceback import format_exception_only
from types import NoneType, UnionType
from typing import Any, Final, Literal, NewType, TypeVar, Union, cast, get_args, get_origin

from async_tiercache.codecs._annotations import parameters, substitute
from async_tiercache.codecs._models import Shape, family_of
from async_tiercache.codecs._nodes import (
    MismatchError,
    Node,
    Side,
    each,
    guard,
    plain,
    row,
)
from async_tiercache.codecs._unions import literal, union
from async_tiercache.codecs.msgpack import DYNAMIC, SCALARS, Unpack, pack, quick_unpack, unpack
from async_tiercache.errors import ConfigurationError, DecodeError, EncodeError

# Part of every fingerprint: raise it when the same annotation is to be stored in another form.
_FORM: Final = 1


class TypedCodec:
    """Encodes and decodes the values of one annotation; made by `codec_for`.

    Attributes:
        schema: The canonical text of the annotation.
        fingerprint: 8 bytes that change whenever its shape or the schema version does.
        classes: The models and enums that it makes; the fingerprint says nothing of their modules.
    """

    __slots__ = (
        "_easy", "_from_wire", "_is_dynamic", "_quick_unpack", "_to_wire", "classes", "fingerprint",
        "schema",
    )  # fmt: skip

    def __init__(self, node: Node, fingerprint: bytes, classes: frozenset[type]) -> None:
        self.schema = node.schema
        self.fingerprint = fingerprint
        self.classes = classes
        self._to_wire = guard(node.encode, node.schema)
        self._from_wire = guard(node.decode, node.schema)
        self._easy = node.decode.easy
        self._is_dynamic = node.decode is DYNAMIC.decode
        self._quick_unpack: Unpack = self._first_unpack

    def __repr__(self) -> str:
        return f"<TypedCodec {self.schema}>"

    def encode(self, value: Any, /) -> bytes:
        """Return the bytes of `value`.

        Raises:
            EncodeError: The value is not of the annotated type through and through, or holds what
                cannot be stored; the message says where.
        """
        try:
            return pack(self._to_wire(value))
        except MismatchError as mismatch:
            raise EncodeError(mismatch.text(), hint=mismatch.hint) from None
        except RecursionError:
            raise EncodeError(
                "it is nested too deeply, or holds itself",
                hint="Return identifiers in place of references that go round.",
            ) from None
        except UnicodeEncodeError as error:
            raise EncodeError(
                f"a str holds a lone surrogate ({error.reason})",
                hint="Decode the text with errors='replace', or return bytes.",
            ) from None
        except Exception as error:
            # Somebody else's error may fail to say anything; this says so.
            said = "".join(format_exception_only(error)).rstrip()
            raise EncodeError(
                said, hint="Return plain data, or a model whose fields can be read."
            ) from error

    def decode(self, payload: bytes | memoryview, /) -> Any:
        """Return the value.

        Raises:
            DecodeError: The bytes are not a value of the annotation; nothing else is raised.
        """
        try:
            try:
                data = self._quick_unpack(payload)
            except Exception:  # noqa: BLE001 - it is judged by the other one
                data = unpack(payload)
            # What is as it comes from the wire needs no call for that.
            return data if type(data) in self._easy else self._from_wire(data)
        except MismatchError as mismatch:
            raise DecodeError(f"stored bytes do not fit: {mismatch.text()}") from None
        except Exception as error:
            raise DecodeError(
                f"stored bytes are not a value of {self.schema}: {type(error).__name__}"
            ) from error

    @property
    def quick(self) -> Unpack:
        """What decodes in fewer calls; where it raises anything, `decode` has the last word."""
        return quick_unpack() if self._is_dynamic else self.decode

    def _first_unpack(self, payload: bytes | memoryview, /) -> Any:
        # Not before something is decoded: that imports msgspec.
        self._quick_unpack = quick_unpack()
        return self._quick_unpack(payload)


def codec_for(annotation: Any, *, schema_version: str = "0") -> TypedCodec:
    """Return the codec of an annotation.

    Args:
        annotation: A resolved annotation; `Any`, `object` or none at all take plain data of every
            kind in `async_tiercache.codecs.msgpack`.
        schema_version: Part of the fingerprint, for changes of meaning that no type shows.

    Raises:
        ConfigurationError: No value of the annotation could be stored and come back as it was.

    Example:
        >>> codec = codec_for(dict[int, tuple[str, ...]])
        >>> codec.decode(codec.encode({1: ("a", "b")}))
        {1: ('a', 'b')}
    """
    try:
        compiler, node = _compiled(annotation)
    except RecursionError:
        raise ConfigurationError(
            f"{_name(annotation)} contains ever more types",
            hint="A generic model may refer to itself only with the same arguments.",
        ) from None
    lines = [f"{_FORM}", schema_version, node.schema]
    lines += [f"{name}={text}" for name, text in sorted(compiler.definitions.items())]
    text = "\n".join(lines).encode("utf-8", "backslashreplace")
    fingerprint = blake2b(text, digest_size=8).digest()
    return TypedCodec(node, fingerprint, frozenset(compiler.classes))


def _compiled(annotation: Any) -> "tuple[_Compiler, Node]":
    """Compile an annotation, with full names for classes of which several bear one.

    Whichever of them came first would else bear the short one, and their order may mean nothing.
    """
    shared: set[str] = set()
    while True:
        compiler = _Compiler(frozenset(shared))
        node = compiler.node(annotation)
        if shared.issuperset(compiler.shared):
            return compiler, node
        shared |= compiler.shared


_ABSENT: Final = (inspect.Signature.empty, Any, object)

_PLAIN: Final[dict[type | None, Node]] = {
    **{kind: plain(kind.__name__, kind) for kind in SCALARS},
    None: plain("None", NoneType),
    NoneType: plain("None", NoneType),
    int: plain("int", int, bool),
    float: plain("float", float, int, bool),
    complex: plain("complex", complex, float, int, bool),
}

# What an abstract annotation stands for: every concrete type comes back as itself.
_CONCRETE: Final[dict[Any, tuple[Any, ...]]] = {
    abc.Sequence: (list, tuple),
    abc.Collection: (list, tuple),
    abc.Iterable: (list, tuple),
    abc.Reversible: (list, tuple),
    abc.MutableSequence: (list,),
    abc.Set: (set, frozenset),
    abc.MutableSet: (set,),
    abc.Mapping: (dict,),
    abc.MutableMapping: (dict,),
}

_ORDINARY: Final = frozenset({NoneType, bool, int, float, str, bytes})
_OLD_TUPLE: Final[Any] = getattr(typing, "Tuple")  # noqa: B009 - ruff would rewrite it
_SELF: Final[Any] = getattr(typing, "Self")  # noqa: B009 - pyright knows it in classes only

_WRAPPERS: Final = frozenset(
    {
        typing.Annotated, typing.Final, typing.Required, typing.NotRequired,
        getattr(typing, "ReadOnly", typing.Required),
    }
)  # fmt: skip


class _Compiler:
    """Compiles one annotation.

    Args:
        qualify: Names in the schema that several classes would bear.

    Attributes:
        definitions: The text of every model and enum by its name in the schema, for the
            fingerprint.
        classes: The exact types of models and enums.
    """

    def __init__(self, qualify: frozenset[str]) -> None:
        self.definitions: dict[str, str] = {}
        self.classes: set[type] = set()
        self._qualify = qualify
        self._bearers: dict[str, set[type]] = {}
        self._qualified: dict[str, type] = {}
        self._models: dict[Any, Node] = {}
        self._aliases: dict[Any, Node] = {}
        self._owners: list[Any] = []

    @property
    def shared(self) -> set[str]:
        """The names that several classes would bear."""
        return {name for name, bearers in self._bearers.items() if len(bearers) > 1}

    def node(self, annotation: Any) -> Node:
        """Return the node of an annotation."""
        if any(annotation is absent for absent in _ABSENT):
            return DYNAMIC
        if annotation is _SELF and self._owners:
            annotation = self._owners[-1]
        if isinstance(annotation, type | NoneType) and annotation in _PLAIN:
            return _PLAIN[annotation]
        origin = get_origin(annotation) or annotation
        if origin in (Union, UnionType):
            return union([self.node(member) for member in get_args(annotation)])
        if origin is Literal:
            return literal(get_args(annotation), self._text)
        return (
            self._indirect(annotation, origin)
            or self._container(origin, get_args(annotation), annotation)
            or self._class(origin, get_args(annotation), annotation)
            or _unsupported(annotation)
        )

    def _indirect(self, annotation: Any, origin: Any) -> Node | None:
        """Return the node of what an annotation stands for."""
        if annotation is typing.LiteralString:
            return _PLAIN[str]
        if isinstance(annotation, NewType):
            return self.node(annotation.__supertype__)
        if isinstance(annotation, TypeVar):
            bound = Any if annotation.__bound__ is None else annotation.__bound__
            return union([self.node(member) for member in annotation.__constraints__ or (bound,)])
        if any(origin is wrapper for wrapper in _WRAPPERS):
            return self.node(get_args(annotation)[0])
        if type(origin).__name__ == "TypeAliasType":
            return self._alias(annotation, origin)
        return None

    def _alias(self, annotation: Any, origin: Any) -> Node:
        key = origin, self._schemas(get_args(annotation))
        if key in self._aliases:
            return self._aliases[key]
        parts: list[Node] = []
        self._aliases[key] = Node(
            f"@{origin.__name__}",
            Side(None, lambda value: _convert(parts[0].encode, value)),
            Side(None, lambda value: _convert(parts[0].decode, value)),
        )
        scope = dict(zip(parameters(origin), get_args(annotation), strict=False))
        node = self.node(substitute(origin.__value__, scope))
        del self._aliases[key]
        judges = [Side(None, guard(side, node.schema)) for side in (node.encode, node.decode)]
        parts.append(Node(node.schema, *judges))
        return node

    def _container(self, origin: Any, arguments: tuple[Any, ...], annotation: Any) -> Node | None:
        if origin in (list, set, frozenset):
            return _listed(origin, self.node(arguments[0] if arguments else Any))
        if origin is tuple:
            return self._tuple(arguments, annotation)
        if origin is dict:
            key, value = arguments or (Any, Any)
            return _mapped(self.node(key), self.node(value))
        if origin is bytearray:
            return Node(
                "bytearray",
                Side(frozenset({bytearray}), None),
                Side(frozenset({bytes}), bytearray),
            )
        if origin in _CONCRETE:
            return union([self._concrete(kind, arguments) for kind in _CONCRETE[origin]])
        return None

    def _concrete(self, kind: Any, arguments: tuple[Any, ...]) -> Node:
        if not arguments:
            return self.node(kind)
        return self.node(kind[(*arguments, ...) if kind is tuple else arguments])

    def _tuple(self, arguments: tuple[Any, ...], annotation: Any) -> Node:
        if getattr(annotation, "__unpacked__", False):
            raise ConfigurationError(
                f"no value of a tuple that holds {annotation} can be stored",
                hint="Annotate a fixed number of items, or tuple[ITEM, ...].",
            )
        if not arguments and annotation is not tuple and annotation is not _OLD_TUPLE:
            return _fixed([])
        if not arguments or arguments[1:] == (...,):
            return _listed(tuple, self.node(arguments[0] if arguments else Any))
        return _fixed([self.node(argument) for argument in arguments])

    def _class(self, cls: object, arguments: tuple[Any, ...], annotation: Any) -> Node | None:
        if not isinstance(cls, type):
            return None
        if issubclass(cls, enum.Enum):
            return self._enum(cls)
        model = cast("type[Any]", cls)
        family = family_of(model)
        if family is None:
            return None
        key = model, self._schemas(arguments)
        if key not in self._models:
            self._model(key, family(model, arguments), annotation)
        return self._models[key]

    def _schemas(self, arguments: Sequence[Any]) -> str:
        return f"[{', '.join(self.node(a).schema for a in arguments)}]" if arguments else ""

    def _model(self, key: tuple[type, str], shape: Shape, annotation: Any) -> None:
        name = self._name(*key)
        self.classes.add(shape.kind)
        parts: list[Node] = []
        # Stands for the model inside itself, until its own node is complete.
        self._models[key] = Node(
            name,
            Side(frozenset({shape.kind}), lambda value: _convert(parts[0].encode, value)),
            Side(frozenset({list}), lambda value: _convert(parts[0].decode, value)),
        )
        self._owners.append(annotation)
        nodes = [self.node(hint) for _, hint in shape.fields]
        self._owners.pop()
        text = "; ".join(
            f"{field}: {node.schema}" for (field, _), node in zip(shape.fields, nodes, strict=True)
        )
        self.definitions[name] = f"{shape.family}({text})"
        parts.append(_assembled(name, shape, nodes))
        self._models[key] = parts[0]

    def _enum(self, cls: type[enum.Enum]) -> Node:
        name = self._name(cls, "")
        self.classes.add(cls)
        flags = issubclass(cls, enum.Flag)
        members = "; ".join(f"{n}={_constant(m.value)}" for n, m in cls.__members__.items())
        self.definitions[name] = f"{'flag' if flags else 'enum'}({members})"
        kinds: frozenset[type] = frozenset({cls})
        if flags:
            return Node(
                name,
                Side(kinds, lambda member: member._value_),
                Side(frozenset({int}), cls),
            )
        by_name = dict(cls.__members__)

        def named(member: Any) -> str:
            own: str = member._name_
            # What `_missing_` makes may bear no name, or that of another member.
            if by_name.get(own) is not member:
                raise MismatchError(
                    f"a member of {cls.__name__}",
                    "one that _missing_ made",
                    hint="Return the value itself, or define the member.",
                )
            return own

        return Node(
            name,
            Side(kinds, named),
            Side(frozenset({str}), by_name.__getitem__),
        )

    def _text(self, value: Any) -> str:
        """Return the text of a literal value, the same on every version of Python."""
        if isinstance(value, enum.Enum):
            self.classes.add(type(value))
            return self._name(type(value), f".{value._name_}")
        return repr(value)

    def _name(self, cls: type, rest: str) -> str:
        """Return a name in the schema: that of a class, with its module if others bear it too."""
        name = cls.__qualname__ + rest
        self._bearers.setdefault(name, set()).add(cls)
        if name in self._qualify:
            name = f"{cls.__module__}.{name}"
            if self._qualified.setdefault(name, cls) is not cls:
                raise ConfigurationError(
                    f"two classes are called {name}, which nothing stored could tell apart",
                    hint="Give one of them another name.",
                )
        return name


def _convert(side: Side, value: Any) -> Any:
    return value if side.convert is None else side.convert(value)


def _assembled(name: str, shape: Shape, nodes: Sequence[Node]) -> Node:
    schemas = [node.schema for node in nodes]
    labels = [f".{field}" for field, _ in shape.fields]
    to_wire = row([node.encode for node in nodes], schemas, labels)
    from_wire = row([node.decode for node in nodes], schemas, labels)
    take, build = shape.take, shape.build
    return Node(
        name,
        Side(frozenset({shape.kind}), lambda value: to_wire(take(value))),
        Side(frozenset({list}), lambda values: build(from_wire(values))),
    )


def _fixed(nodes: Sequence[Node]) -> Node:
    """Return the node of a tuple of fixed length."""
    schemas = [node.schema for node in nodes]
    labels = [f"[{index}]" for index in range(len(nodes))]
    to_wire = row([node.encode for node in nodes], schemas, labels)
    from_wire = row([node.decode for node in nodes], schemas, labels)
    return Node(
        f"tuple[{', '.join(schemas) or '()'}]",
        Side(frozenset({tuple}), lambda value: to_wire([*value])),
        Side(frozenset({list}), lambda values: tuple(from_wire(values))),
    )


def _listed(kind: Any, item: Node) -> Node:
    """Return the node of a container of any length that stands on the wire as an array."""
    schema = f"{kind.__name__}[{item.schema}{', ...' if kind.__name__ == 'tuple' else ''}]"
    to_wire, from_wire = each(item.encode, item.schema), each(item.decode, item.schema)
    wire = frozenset({list})
    if kind is list:
        return Node(schema, Side(wire, to_wire), Side(wire, from_wire))
    return Node(
        schema,
        Side(frozenset({kind}), lambda value: to_wire([*value])),
        Side(wire, lambda values: kind(from_wire(values))),
    )


def _mapped(key: Node, value: Node) -> Node:
    """Return the node of a dict: a map, or two arrays if its keys are arrays on the wire."""
    schema = f"dict[{key.schema}, {value.schema}]"
    keys_to, keys_from = each(key.encode, key.schema), each(key.decode, key.schema)
    to_wire, from_wire = each(value.encode, value.schema), each(value.decode, value.schema)
    kinds, pairs = (
        frozenset({dict}),
        key.decode.kinds is None or bool(key.decode.kinds & {list, dict}),
    )

    def encode(mapping: dict[Any, Any]) -> Any:
        values = mapping.values()
        new_keys, new_values = keys_to(mapping), to_wire(values, mapping)
        if pairs:
            return [[*new_keys], [*new_values]]
        if new_keys is mapping and new_values is values:
            return mapping
        return dict(zip(new_keys, new_values, strict=True))

    def decode(mapping: dict[Any, Any]) -> Any:
        values = mapping.values()
        new_keys, new_values = keys_from(mapping), from_wire(values, mapping)
        if new_keys is mapping and new_values is values:
            return mapping
        return dict(zip(new_keys, new_values, strict=True))

    def decode_pairs(wire: list[Any]) -> Any:
        keys, values = wire
        return dict(zip(keys_from(keys), from_wire(values), strict=True))

    if pairs:
        return Node(schema, Side(kinds, encode), Side(frozenset({list}), decode_pairs))
    return Node(schema, Side(kinds, encode), Side(kinds, decode))


def _constant(value: Any) -> str:
    """Return the text of an enum member's value; of an object only its class, which is stable."""
    kind = cast("Any", type(value))
    if kind is tuple:
        return f"({', '.join(map(_constant, value))})"
    return repr(value) if kind in _ORDINARY else kind.__qualname__


def _unsupported(annotation: Any) -> Node:
    hint = "Use dataclasses or pydantic models, scalars, list, tuple, set, dict, unions, or Any."
    origin = get_origin(annotation) or annotation
    if annotation is _SELF:
        hint = "Only a model's field may be of Self: name the class, as a string inside of it."
    elif isinstance(annotation, str | typing.ForwardRef):
        hint = "Resolve string annotations first; import the names at run time."
    elif isinstance(origin, type) and issubclass(
        origin, abc.Iterator | abc.AsyncIterator | abc.AsyncIterable
    ):
        hint = "An iterator can be read only once: return a list."
    elif isinstance(origin, type) and issubclass(origin, abc.Awaitable):
        hint = "Annotate what the coroutine returns."
    elif isinstance(origin, type) and issubclass(origin, dict | list | set | tuple | abc.Mapping):
        hint = f"Return a plain container: a {origin.__name__} would not come back as itself."
    raise ConfigurationError(f"no value of {_name(annotation)} can be stored", hint=hint)


def _name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
