"""Constructor arguments of a `TierCache` from environment variables."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from async_tiercache._options import L1, Policy, size_in_bytes
from async_tiercache.errors import ConfigurationError


def from_environment(prefix: str) -> dict[str, Any]:
    """Return constructor arguments from the variables that begin with `prefix`.

    Raises:
        ConfigurationError: A variable is unknown, or has no usable value.
    """
    given = {
        name.removeprefix(prefix): value
        for name, value in os.environ.items()
        if name.startswith(prefix)
    }
    arguments: dict[str, Any] = {}
    if "URL" in given:
        arguments["url"] = given.pop("URL")
    if "NAMESPACE" in given:
        arguments["namespace"] = given.pop("NAMESPACE")
    if "ENABLED" in given:
        arguments["enabled"] = _switch(given.pop("ENABLED"), f"{prefix}ENABLED")
    bounds: dict[str, Any] = {}
    if "L1_MAX_ENTRIES" in given:
        bounds["max_entries"] = _whole(given.pop("L1_MAX_ENTRIES"), f"{prefix}L1_MAX_ENTRIES")
    if "L1_MAX_BYTES" in given:
        with _naming(f"{prefix}L1_MAX_BYTES"):
            bounds["max_bytes"] = size_in_bytes(given.pop("L1_MAX_BYTES"))
    if bounds:
        with _naming(f"{prefix}L1_MAX_ENTRIES"):
            arguments["l1"] = L1(**bounds)
    for name in ("TTL", "L1_TTL", "GRACE"):
        if name in given:
            policy = arguments.get("policy", Policy())
            with _naming(f"{prefix}{name}"):
                arguments["policy"] = policy.replace(**{name.lower(): _duration(given.pop(name))})
    if given:
        raise ConfigurationError(
            f"Unknown variables: {', '.join(prefix + name for name in sorted(given))}",
            hint="Known are URL, NAMESPACE, ENABLED, L1_MAX_ENTRIES, L1_MAX_BYTES, TTL, L1_TTL "
            f"and GRACE, each after {prefix}.",
        )
    return arguments


@contextmanager
def _naming(variable: str) -> Generator[None]:
    """Name the variable in an error about what it says."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{variable}: {error.args[0]}", hint=error.hint) from error


def _duration(text: str) -> float | str:
    """Return a duration as options take it: what is a number here is a text there."""
    return float(text) if text.replace(".", "", 1).isdecimal() else text


def _switch(text: str, name: str) -> bool:
    values = {"0": False, "1": True, "false": False, "true": True}
    if text.lower() not in values:
        raise ConfigurationError(f"{name}={text!r} is neither 0 nor 1", hint=f"Set {name}=1.")
    return values[text.lower()]


def _whole(text: str, name: str) -> int:
    if not text.isdecimal():
        raise ConfigurationError(
            f"{name}={text!r} is not a whole number", hint=f"Set for example {name}=10000."
        )
    return int(text)
