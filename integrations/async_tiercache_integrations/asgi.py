"""A shared cache of HTTP responses, as ASGI middleware of no framework.

The response's own fields decide whether it is stored and for how long. A URL's record in the cache
is its response, or the names of the request fields that tell its variants apart (`Vary`); those are
then under keys that carry the record's own random id, so that nothing reaches them but by a record
that is there. Whatever ends the record ends them all.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from async_tiercache import TierCache
from async_tiercache._checks import check_clock, checked_switch
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache._options import Size
from async_tiercache.abc import Clock
from async_tiercache.http.control import RequestControl, request_control
from async_tiercache.http.fields import Fields, joined
from async_tiercache.http.negotiation import Normaliser
from async_tiercache.http.status import Forwarded
from async_tiercache.http.stored import StoredResponse, answer_of
from async_tiercache.http.target import authority_of
from async_tiercache.tags import tag_texts
from async_tiercache_integrations._http_carrier import CarriedBy, Carrier
from async_tiercache_integrations._http_counts import HttpStatistics, counts_of, http_statistics
from async_tiercache_integrations._http_edge import Edge
from async_tiercache_integrations._http_fill import PARTIAL, Fill
from async_tiercache_integrations._http_hits import Hits
from async_tiercache_integrations._http_keys import (
    Keys,
    Scope,
    host_of,
    parts_key,
)
from async_tiercache_integrations._http_lookup import Lookup
from async_tiercache_integrations._http_options import (
    PROFILES,
    check_choices,
    check_parts,
    checked_detail,
    checked_hosts,
    checked_normalisers,
    checked_rules,
    checked_variants,
    largest_content,
    targets_of,
)
from async_tiercache_integrations._http_origin import (
    BODY,
    REMARKS,
    START,
    App,
    Detail,
    Message,
    Origin,
    Receive,
    Send,
    fields_of,
    read_again,
)
from async_tiercache_integrations._http_records import NOT_STORED, Record
from async_tiercache_integrations._http_rules import Rule
from async_tiercache_integrations._http_run import Run
from async_tiercache_integrations._http_terms import AUTHORIZATION, CONDITIONS

__all__ = [
    "Edge",
    "HttpStatistics",
    "ResponseCache",
    "Rule",
    "http_private",
    "http_statistics",
    "http_tags",
]

ProfileName: TypeAlias = Literal["origin-safe", "rfc9111"]
Clients: TypeAlias = Literal["ignore", "honour"] | Callable[[Scope], bool]
"""Whether what clients ask of caches counts, or for which requests."""
Groups: TypeAlias = Literal["ignore", "honour"]
_READING: Final = frozenset({"GET", "HEAD"})
_SAFE: Final = _READING | {"OPTIONS", "TRACE"}
_PASSING: Final = frozenset({b"if-match", b"if-unmodified-since", b"transfer-encoding"})
"""Fields of requests that are the application's alone."""
_UNUSUAL: Final = _PASSING | PARTIAL | {AUTHORIZATION, b"content-length"}
_ASKING: Final = frozenset({b"cache-control", b"pragma"})
_VALIDATORS: Final = frozenset({b"etag", b"last-modified"})
_DESCRIBING: Final = _VALIDATORS | {b"content-length"}


def http_tags(*tags: str) -> None:
    """Let the response that is being made stand under tags of the cache.

    Called anywhere below `ResponseCache`; where no response is being stored it has no effect.

    Raises:
        UnkeyableError: A text cannot be a tag.

    Example:
        >>> http_tags("user:42", "product:7")
    """
    remarks = REMARKS.get()
    if remarks is not None:
        remarks.tags.update(tag_texts(tags))


def http_private() -> None:
    """Let the response that is being made be stored for nobody else, whatever its fields say.

    For code that reads what only one client may see, such as a session. It must run before the
    response has ended.

    Example:
        >>> http_private()
    """
    remarks = REMARKS.get()
    if remarks is not None:
        remarks.private = True


class ResponseCache(Hits):
    """Keeps the responses of an application to `GET` that may be shared, and answers from them.

    Responses that are not stored are streamed as they come, and so are the others to the client
    that is first; all who ask meanwhile wait for that one.

    Args:
        app: The application.
        cache: Keeps the responses; open while requests come.
        rules: What holds for the responses of a path where they do not say it themselves.
        profile: How much of what the RFCs allow is made use of; ``"origin-safe"`` stores only what
            was clearly meant to be shared.
        max_body: Larger contents are not stored, in bytes, nor those that are larger than the
            `max_value_bytes` of the cache's policy.
        max_variants: So many variants of a URL are stored by each process, as far as it remembers,
            and as many of its parts; the requests for others pass by.
        hosts: Those for which responses are stored, such as ``"shop.example"``, with the port if it
            is not that of the scheme; requests for others pass by. Without any, all hosts are.
        normalise: By name of a request field, what takes the place of its value, in front of the
            application as well; see `async_tiercache.http.negotiation`.
        clients: Whether what a client asks of caches, in `Cache-Control` and `Pragma`, counts:
            whoever may send ``no-cache`` can send every request to the application.
        etags: Whether what is stored without an `ETag` gets one that is made of its content, so
            that clients who have it are answered with a 304.
        groups: Whether the groups that responses name count (RFC 9875): on a shared host, whoever
            makes some of the responses can end those of the others by them.
        collect_tags: Whether a response ends with what was read of a cache while it was made. Such
            reads ask L2.
        edge: A CDN in front that keeps these responses, too, and is told their tags.
        read_your_writes: How a client's next requests tell what it has changed, so that no server
            answers them with anything older: by a ``"cookie"``, or by a ``"header"`` that the
            client sends back as it came.
        name: What `Cache-Status` calls this cache, a token; `None` leaves that field out. A field
            of the response that begins with it, such as ``Tiercache-Cache-Control``, speaks to this
            cache alone (RFC 9213).
        detail: Whether `Cache-Status` says why a response was not stored, or with `None` nothing at
            all; a function of the scope decides for each request.
        clock: Tells the time.

    Raises:
        ConfigurationError: There is no such profile, the name is no token, or another option is
            not what it must be.

    Example:
        >>> from async_tiercache import TierCache
        >>> async def app(scope, receive, send):
        ...     ...
        >>> app = ResponseCache(
        ...     app,
        ...     cache=TierCache(namespace="shop"),
        ...     rules=[Rule("/products/{number}", ttl="5m", tags=["product:{number}"])],
        ... )
    """

    def __init__(
        self,
        app: App,
        *,
        cache: TierCache,
        rules: Sequence[Rule] = (),
        profile: ProfileName = "origin-safe",
        max_body: Size = "1MiB",
        max_variants: int = 64,
        hosts: Collection[str] = (),
        normalise: Mapping[str, Normaliser] | None = None,
        clients: Clients = "ignore",
        etags: bool = False,
        groups: Groups = "honour",
        collect_tags: bool = True,
        edge: Edge | None = None,
        read_your_writes: CarriedBy | None = None,
        name: str | None = "tiercache",
        detail: Detail = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        check_parts(app, cache, edge)
        check_choices(profile, name, clients, groups, read_your_writes)
        check_clock(clock)
        unusual = _UNUSUAL if clients == "ignore" else _UNUSUAL | _ASKING
        self._cache = cache
        core = cache._core  # noqa: SLF001 - a part of the whole, if of another package
        chosen = PROFILES[profile]
        origin = Origin(
            app=app,
            profile=chosen,
            rules=checked_rules(rules),
            max_body=largest_content(cache, max_body),
            name=name,
            detail=checked_detail(detail),
            edge=edge,
            collects=checked_switch(collect_tags, name="collect_tags"),
            keys=Keys(checked_variants(max_variants), unusual, CONDITIONS, lists=chosen.lists),
            counts=counts_of(cache),
            targets=targets_of(name, profile),
            clock=clock,
            etags=checked_switch(etags, name="etags"),
            groups=groups == "honour",
            advise=core.notices.advise,
            tasks=core.tasks,
        )
        self._hosts = checked_hosts(hosts)
        self._normalisers = checked_normalisers(normalise or {})
        self._clients = clients
        self._carrier = None
        if read_your_writes is not None:
            self._carrier = Carrier(read_your_writes, name or "tiercache")
        super().__init__(
            Lookup(cache, origin),
            origin,
            unusual=unusual,
            prepares=self._carrier is not None or bool(self._normalisers) or callable(detail),
            name=None if detail is None else name,
        )

    async def _prepared(self, scope: Any, receive: Any, send: Any) -> Any:
        """Return a plain request as it is looked for; `None` if another has been answered."""
        if scope["type"] != "http":
            await self._origin.app(scope, receive, send)
            return None
        method = scope["method"]
        if self._carrier is not None:
            token = self._carrier.received(joined(scope["headers"]))
            if token is not None:
                await self._cache.apply(token)
        if method not in _READING:
            await (self._pass if method in _SAFE else self._change)(scope, receive, send)
            return None
        if self._normalisers:
            scope = {**scope, "headers": self._normalised(scope["headers"])}
        tells = not callable(self._origin.detail) or self._origin.detail_for(scope) is not None
        if method == "GET" and tells:
            return scope
        await self._handle(Fill(self._origin, scope, receive, send))
        return None

    # What answers.

    async def _handle(self, fill: Fill) -> None:
        """Answer a request that memory alone does not answer."""
        scope, fields = fill.scope, fill.fields
        asked = self._asked(scope) if not _ASKING.isdisjoint(fields) else None
        if not _PASSING.isdisjoint(fields) or fields.get(b"content-length", b"0") != b"0":
            await self._pass(scope, fill.receive, fill.send, detail="request")
        elif self._hosts and _authority(scope) not in self._hosts:
            await self._pass(scope, fill.receive, fill.send, detail="host")
        elif AUTHORIZATION in fields and not self._origin.profile.authorized:
            await self._pass(scope, fill.receive, fill.send, detail="authorization")
        elif asked is not None and asked.no_store:
            await self._pass(scope, fill.receive, fill.send, "request", detail="no-store")
        elif (
            scope["method"] == "HEAD"
            or not PARTIAL.isdisjoint(fields)
            or (asked is not None and asked.only_if_cached)
        ):
            await self._answer_unfilled(fill, asked)
        else:
            await self._answer(fill, await self._lookup.find(fill), asked)

    async def _answer_unfilled(self, fill: Fill, asked: RequestControl | None) -> None:
        """Answer a request that does not make the whole of what it is for."""
        lookup = self._lookup
        held = await lookup.held(fill)
        part = fill.for_part() if held is NOT_STORED else None
        if asked is not None and asked.only_if_cached:
            if part is not None:
                fill, held = part, await lookup.held(part)
            await self._answer_held(fill, asked, held)
        elif part is None:
            await self._answer(fill, held, asked, fills=False)
        else:
            await self._answer(part, await lookup.find(part), asked)

    async def _answer(
        self,
        fill: Fill,
        record: Record | None,
        asked: RequestControl | None = None,
        *,
        fills: bool = True,
    ) -> None:
        """Answer a request with its record, unless it has made that itself; it may be another's."""
        if record is None:
            # The two hold each other: only a garbage collection would free what they hold.
            run, fill.run = fill.run, None
            if run is not None:
                self._counts.forwarded[run.forwarded] += 1
                made = await run.rest()
                if made is not None:
                    await self._send_made(fill, run, made)
            return
        if not isinstance(record, StoredResponse) or not _is_for(fill, record):
            await self._pass(fill.scope, fill.receive, fill.send, "miss")
            return
        now = self._origin.clock.wall()
        reuse = record.reuse(asked, now=now)
        if reuse == "stale-while-revalidate":
            self._lookup.validate_behind(fill, record)
        if reuse in {"fresh", "stale-while-revalidate"}:
            await self._send(fill, record, now)
        elif fills:
            await self._answer_validated(fill, record, asked)
        else:
            head = fill.scope["method"] == "HEAD"
            hearing = partial(self._compared, fill, record) if head else None
            await self._pass(fill.scope, fill.receive, fill.send, "stale", hearing=hearing)

    async def _answer_held(self, fill: Fill, asked: RequestControl, record: Record) -> None:
        """Answer a request that must not reach the application."""
        now = self._origin.clock.wall()
        if (
            isinstance(record, StoredResponse)
            and _is_for(fill, record)
            and record.reuse(asked, now=now) == "fresh"
        ):
            await self._send(fill, record, now)
            return
        # Neither a hit nor forwarded (RFC 9211, 2.1 and 2.2).
        told = self._origin.told(fill.scope, None, refused=True, detail="only-if-cached")
        headers = [(b"content-length", b"0"), *told]
        start = {"type": START, "status": 504, "headers": headers}
        await fill.send(start)
        await fill.send({"type": BODY, "body": b""})

    async def _send(self, fill: Fill, record: StoredResponse, now: float) -> None:
        """Answer a request from what is stored."""
        method, origin, ttl = fill.scope["method"], self._origin, int(record.fresh_until - now)
        said: Fields = ()
        if fill.collapsed is not None:
            said = origin.told(fill.scope, fill.collapsed, ttl=ttl, collapsed=True)
        elif origin.detail_for(fill.scope) is not None:
            said = self._hit(ttl)
        status, told, body = self._told(record, fill.fields, said, method=method, now=now)
        await fill.send({"type": START, "status": status, "headers": told})
        await fill.send({"type": BODY, "body": body})

    async def _answer_validated(
        self, fill: Fill, record: StoredResponse, asked: RequestControl | None
    ) -> None:
        """Answer a request once the origin has said whether what is stored is current."""
        again = fill.again(record, fill.receive, fill.send)
        found = await self._lookup.validated_by_others(again, anew=asked is not None)
        fill.collapsed = None if found is None else "stale"
        if found is None:
            found = await self._lookup.validated(again)
        # The two hold each other.
        run, again.run = again.run, None
        if run is not None and run.outcome.answers:
            self._counts.forwarded["stale"] += 1
            made = await run.rest()
            if made is not None:
                await self._send_made(again, run, made)
        elif not isinstance(found, StoredResponse) or not _is_for(fill, found):
            # The application may have read the request already.
            receive = fill.receive if run is None else read_again(run.received, fill.receive)
            await self._pass(fill.scope, receive, fill.send, "stale")
        elif run is None:
            await self._send(fill, found, self._origin.clock.wall())
        else:
            self._counts.forwarded["stale"] += 1
            await self._send_made(again, run, found)

    async def _send_made(self, fill: Fill, run: Run, record: StoredResponse) -> None:
        """Answer the request that has made or validated a response with that.

        It ends with the application, which may have more to do: a server that stops waits for that.
        """
        origin, now = self._origin, self._origin.clock.wall()
        status, fields, body = answer_of(record, fill.scope["method"], fill.fields, now=now)
        if origin.edge is not None:
            fields = origin.edge.refused(fields)
        fields += origin.told(
            fill.scope, run.forwarded, ttl=int(record.fresh_until - now), stored=fill.kept,
            forwarded_status=None if run.status == record.status else run.status,
        )  # fmt: skip
        await fill.send({"type": START, "status": status, "headers": fields})
        await fill.send({"type": BODY, "body": body})
        await run.ended()

    # Requests that pass by.

    async def _pass(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        forwarded: Forwarded = "bypass",
        detail: str = "",
        *,
        hearing: Callable[[Send], Send] | None = None,
    ) -> None:
        """Let the application answer; nothing is stored, but `hearing` is told what it sends."""
        origin = self._origin
        reading = scope["method"] in _READING
        why = forwarded if reading else "method"
        self._counts.forwarded[why] += 1
        told = origin.told(scope, why, detail=detail)
        if told:
            send = self._telling(told, send)
        if hearing is not None:
            send = hearing(send)
        rule = origin.rule_for(scope) if reading and forwarded != "bypass" else None
        if rule is not None:
            scope = {**rule.scoped(scope), "headers": rule.shown(scope["headers"])}
        await origin.app(scope, receive, send)

    def _telling(self, told: list[tuple[bytes, bytes]], send: Send) -> Send:
        """Return what adds a field to a response, and takes away what was said to this cache."""

        async def forward(message: Message) -> None:
            if message["type"] == START:
                shown = self._origin.shown(fields_of(message))
                message = {**message, "headers": [*shown, *told]}
            await send(message)

        return forward

    def _compared(self, fill: Fill, record: StoredResponse, send: Send) -> Send:
        """Return what renews a response by a `HEAD`, or ends it (RFC 9111, 4.3.5)."""
        asked_at = self._origin.clock.wall()

        async def forward(message: Message) -> None:
            if message["type"] == START and message["status"] == 200:
                fields = fields_of(message)
                said, held = joined(fields), joined(record.fields)
                if any(name in said and said[name] != held.get(name) for name in _DESCRIBING):
                    await self._lookup.end(fill.key, parts_key(fill.scope))
                elif not _VALIDATORS.isdisjoint(said):
                    self._lookup.renew_behind(fill, record, fields, asked_at=asked_at)
            await send(message)

        return forward

    async def _change(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer an unsafe request, and end what that has made old."""

        async def forward(message: Message) -> None:
            if message["type"] == START:
                headers = fields_of(message)
                if 200 <= message["status"] < 400:
                    await self._lookup.end_named(scope, headers)
                if self._carrier is not None and (token := changes.token):
                    headers.append(self._carrier.sent(token, secure=scope["scheme"] == "https"))
                message = {**message, "headers": headers}
            await send(message)

        with self._cache.changes() as changes:
            await self._pass(scope, receive, forward)

    # Requests.

    def _normalised(self, headers: Fields) -> Fields:
        """Return the fields of a request, as its variants are told apart by them."""
        asked, names = joined(headers), {name for name, _ in self._normalisers}
        # The others stay as they came: cookies over several lines are no list with commas.
        fields = [each for each in headers if each[0] not in names]
        for name, normaliser in self._normalisers:
            chosen = normaliser(asked[name]) if name in asked else None
            if chosen is not None:
                fields.append((name, chosen))
        return fields

    def _asked(self, scope: Scope) -> RequestControl | None:
        """Return what a client asks of caches, if that counts."""
        clients = self._clients
        honoured = clients(scope) if callable(clients) else clients == "honour"
        return request_control(scope["headers"]) if honoured else None


def _authority(scope: Scope) -> bytes:
    """Return the host that a request is for, in the one spelling of it."""
    return authority_of(scope["scheme"].encode(), host_of(scope).encode("latin-1"))


def _is_for(fill: Fill, record: StoredResponse) -> bool:
    """Return whether a stored response may answer a request (RFC 9111, 3.5)."""
    control = record.control
    return (
        AUTHORIZATION not in fill.fields
        or control.public
        or control.must_revalidate
        or control.s_maxage is not None
    )
