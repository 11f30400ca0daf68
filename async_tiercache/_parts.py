"""The parts of a signature: the forms from which the source of a compiled call is built."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NewType, TypeAlias
from uuid import UUID

from async_tiercache.errors import ConfigurationError

Arguments: TypeAlias = tuple[object, ...]

EXACT: Final = frozenset({int, str, bytes, bool, UUID, type(None)})
"""Classes whose equal values have equal key texts; floats do not (0.0 == -0.0), nor do subclasses.
Values of different classes are told apart by the class itself (1 == True)."""

RESERVED: Final = "_tc_"
"""How all names begin that the source uses itself."""


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
    call = [f"{RESERVED}owner"] if is_method else []
    for parameter in passed:
        name, kind = parameter.name, parameter.kind
        keyword = f"{name}=" if kind is parameter.KEYWORD_ONLY else ""
        if name == context:
            call.append(f"{keyword}{RESERVED}context")
            continue
        if name.startswith(RESERVED):
            raise ConfigurationError(
                f"The parameter {name!r} begins with {RESERVED}", hint="Give it another name."
            )
        if parameter.default is not parameter.empty:
            defaults[f"{RESERVED}default_{name}"] = parameter.default
        star = "*" * ((kind is parameter.VAR_POSITIONAL) + 2 * (kind is parameter.VAR_KEYWORD))
        call.append(f"{star}{keyword}{RESERVED}values[{len(parameters)}]")
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
            default = _Reference(f"{RESERVED}default_{parameter.name}")
        spelled.append(parameter.replace(annotation=parameter.empty, default=default))
    return str(inspect.Signature(spelled))[1:-1]


class _Reference(str):
    """A default that is spelled as the name under which the source finds it."""

    __slots__ = ()
    __repr__ = str.__str__
