"""Rules: what holds for the responses of a path where they do not say it themselves."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from async_tiercache._options import Duration, seconds
from async_tiercache.errors import ConfigurationError
from async_tiercache.http.control import ResponseControl
from async_tiercache.http.fields import TOKEN
from async_tiercache.keys import Template
from async_tiercache.tags import tag_text

_PLACEHOLDER: Final = re.compile(r"\{(\w+)(:path)?\}")
_COOKIE: Final = b"cookie"
_OF_CLIENTS: Final = frozenset({"auth", "session", "user"})
"""What middleware of Starlette and Litestar adds to a request."""


class Rule:
    """What holds for the responses of a path; the first rule of a list that fits counts.

    Args:
        path: Such as ``"/products/{number}"``, as the application's routes see it; a placeholder is
            one segment, ``{rest:path}`` all that is left. Or a pattern for all of a path, whose
            named groups are its placeholders.
        ttl: For how long a response is fresh that does not say it. It says nothing of a request
            that comes with cookies, unless the application is not shown them.
        tags: What each response stands under, such as ``"product:{number}"``.
        vary: Fields of the request that each response depends on, beside those that it names.
        grace: For how long a response that was fresh may be served stale, if it does not say it:
            while it is made anew, and in place of an error.
        strict: Whether the application is shown no fields of a request but `Host` and those in
            `vary`: then no other one can get into what is stored. Nor is it shown who the client
            is, by its address or by what sessions and authentication outside have found out.
        strip_cookies: Whether `Set-Cookie` is taken off the responses, which could not be stored
            with it; the first client goes without it as all others do.

    Raises:
        ConfigurationError: The path or a name is malformed.
        KeyTemplateError: A tag is malformed, or names no placeholder of the path.

    Example:
        >>> rule = Rule("/products/{number}", ttl="5m", tags=["product:{number}"])
        >>> rule.tags_for("/products/7")
        ['product:7']
    """

    def __init__(
        self,
        path: str | re.Pattern[str],
        *,
        ttl: Duration | None = None,
        tags: Sequence[str] = (),
        vary: Collection[str] = (),
        grace: Duration | None = None,
        strict: bool = False,
        strip_cookies: bool = False,
    ) -> None:
        for name, listed in (("tags", tags), ("vary", vary)):
            if isinstance(listed, str):
                raise ConfigurationError(
                    f"{name}={listed!r} is no list", hint=f"Pass {name}=[{listed!r}]."
                )
        fields = tuple(sorted(name.lower().encode() for name in vary))
        for field in fields:
            if not TOKEN.fullmatch(field):
                raise ConfigurationError(
                    f"vary names {field.decode()!r}, which is no field",
                    hint='Write the names of request fields, such as "accept-language".',
                )
        self._pattern = _pattern_of(path) if isinstance(path, str) else path
        self._tags = tuple(Template(tag) for tag in tags)
        for template in self._tags:
            template.check(tuple(self._pattern.groupindex))
        self.path = path if isinstance(path, str) else path.pattern
        self.ttl = None if ttl is None else seconds(ttl, name="ttl")
        self.grace = None if grace is None else seconds(grace, name="grace")
        self.vary = fields
        self.strict = strict
        self.strip_cookies = strip_cookies

    def __repr__(self) -> str:
        return f"Rule({self.path!r})"

    def fits(self, path: str) -> bool:
        """Return whether the rule is for a path, decoded."""
        return self._pattern.fullmatch(path) is not None

    def tags_for(self, path: str) -> list[str]:
        """Return the tags of a path that the rule is for.

        Raises:
            UnkeyableError: A part of the path cannot stand in a tag.
        """
        found = self._pattern.fullmatch(path)
        values = {} if found is None else found.groupdict()
        return [template.text(values, tag_text) for template in self._tags]

    def ttl_for(self, request: Mapping[bytes, bytes]) -> float | None:
        """Return the lifetime of a response that does not say it itself."""
        seen = not self.strict or _COOKIE in self.vary
        return None if seen and _COOKIE in request else self.ttl

    def scoped(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the application is shown of a request beside its fields."""
        if not self.strict:
            return {**scope}
        # A cookie that is in the key tells of all of these.
        hidden = frozenset[str]() if _COOKIE in self.vary else _OF_CLIENTS
        return {key: scope[key] for key in scope if key not in hidden} | {"client": None}

    def shown(self, request: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return what the application is shown of a request's fields."""
        if not self.strict:
            return request
        return [each for each in request if each[0] == b"host" or each[0] in self.vary]

    def stripped(self, response: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return a response's fields without those that the rule takes off it."""
        if not self.strip_cookies:
            return response
        return [each for each in response if each[0] != b"set-cookie"]

    def varying(self, response: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return a response's fields, with those that the rule says it depends on."""
        return [*response, (b"vary", b", ".join(self.vary))] if self.vary else response

    def graced(self, control: ResponseControl, lifetime: float | None) -> ResponseControl:
        """Return what a response says, and how long it may be served stale if it does not say.

        One that never was fresh may not: it is for whom its validation says that it is.
        """
        if self.grace is None or not lifetime:
            return control
        grace = int(self.grace)
        revalidate, error = control.stale_while_revalidate, control.stale_if_error
        return replace(
            control,
            stale_while_revalidate=grace if revalidate is None else revalidate,
            stale_if_error=grace if error is None else error,
        )


def path_of(scope: Mapping[str, Any]) -> str:
    """Return the path that rules are for: as the application's routes see it.

    What the application is mounted at comes before that, by a framework or by a server's
    ``--root-path``.
    """
    path: str = scope["path"]
    below = path.removeprefix(scope.get("root_path", ""))
    return below if below.startswith("/") else path


def _pattern_of(path: str) -> re.Pattern[str]:
    """Return what the paths of a rule look like.

    Raises:
        ConfigurationError: The path is malformed.
    """
    text, names, end = "", set[str](), 0
    for found in _PLACEHOLDER.finditer(path):
        name, rest = found.groups()
        if not name.isidentifier() or name in names:
            raise ConfigurationError(
                f"The path {path!r} holds {{{name}}}",
                hint="A placeholder has a name of its own, such as {number}.",
            )
        names.add(name)
        text += re.escape(path[end : found.start()])
        text += f"(?P<{name}>.*)" if rest else f"(?P<{name}>[^/]+)"
        end = found.end()
    left = path[end:]
    if not path.startswith("/") or set("{}") & set(_PLACEHOLDER.sub("", path)):
        raise ConfigurationError(
            f"The path {path!r} is malformed",
            hint='Begin it with a slash, and write placeholders as in "/products/{number}".',
        )
    return re.compile(text + re.escape(left), re.DOTALL)
