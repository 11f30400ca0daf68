"""A request that makes a record: it runs the application, and passes on what comes."""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from email.utils import formatdate
from secrets import token_bytes
from typing import Final

from async_tiercache import LoadContext
from async_tiercache._flight import CURRENT, tags_rested_on
from async_tiercache.errors import TierCacheError, UsageError
from async_tiercache.http.conditions import is_of, updated, validating
from async_tiercache.http.control import ResponseControl
from async_tiercache.http.fields import Fields, lines_of
from async_tiercache.http.rules import age_of, lifetime_of, refusal, stored_fields
from async_tiercache.http.status import Forwarded
from async_tiercache.http.stored import StoredResponse, stored
from async_tiercache.http.target import EXACT, SearchRule, search_rule
from async_tiercache.http.vary import vary_of
from async_tiercache.tags import checked_tags
from async_tiercache_integrations._http_keys import Scope, origin_of
from async_tiercache_integrations._http_origin import (
    BODY,
    REMARKS,
    START,
    Client,
    Message,
    Origin,
    Receive,
    Remarks,
    Send,
)
from async_tiercache_integrations._http_records import (
    NOT_STORED,
    Pointer,
    Record,
    Searches,
    Variants,
    tags_of,
)
from async_tiercache_integrations._http_rules import path_of

KEPT_STALE: Final = 86_400.0
"""For how long a response that can be validated is kept beyond its lifetime, in seconds."""
_POINTED: Final = 10
"""So many lifetimes of its first response a record that leads to others is kept."""

PARTIAL: Final = frozenset({b"range", b"if-range"})
"""Fields of requests that fill nothing: what they ask for may be small, and the whole large."""
_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since"})
"""Fields that an application must not see whose response is stored: it might leave out the rest."""
_FAILURES: Final = frozenset({500, 502, 503, 504})
_SHORTEST: Final = 0.001


class Fill:
    """A request that may make a record, or validate one; most find theirs and do neither.

    Args:
        origin: The application.
        scope: The request.
        receive: Its client's.
        send: Its client's.
        fields: The request's fields, by name.

    Attributes:
        key: The key of the record.
        by_path: Whether it began at the key of a path.
        trail: The keys of the records that have led here.
        search: What tells the URLs of the path apart that share responses, if they do.
        names: The fields that the URL's variants are told apart by; `None` where it has none, or
            where that is not known yet.
        stale: The response that is to be validated, or replaced.
        run: The application's answer to it, if it was asked.
        over: Whether nobody waits for it any more who would need an answer.
        left: Whether its client has gone.
    """

    # What most requests never change is not set for each of them.
    by_path = False
    trail: tuple[str, ...] = ()
    search: SearchRule | None = None
    names: tuple[bytes, ...] | None = None
    stale: StoredResponse | None = None
    run: "Run | None" = None
    over = False
    left = False

    def __init__(
        self,
        origin: Origin,
        scope: Scope,
        receive: Receive,
        send: Send,
        fields: Mapping[bytes, bytes],
    ) -> None:
        self.origin = origin
        self.scope = scope
        self.receive = receive
        self.send = send
        self.fields = fields
        self.key = origin.keys.of(scope, fields)
        if origin.keys.searched:
            self.by_path = self.key in origin.keys.searched

    def begin_again(self) -> bool:
        """Go to where a request begins by what was learnt since; return whether that is a path."""
        keys, self.over = self.origin.keys, False
        self.key = keys.of(self.scope, self.fields)
        self.by_path = self.key in keys.searched
        return self.by_path

    async def load(self, context: LoadContext) -> Record:
        """Ask the application, or keep what it has said already."""
        if self.run is None and self._is_validated_elsewhere(context):
            return self._kept(context)
        if self.over:
            # A check against the source, which would send an answer to somebody who has one.
            raise UsageError(
                "The request is over, and there is nobody to make a response for",
                hint="Invalidate responses; only requests make them.",
            )
        if self.run is None:
            self.run = Run(self)
            await self.run.settle()
        run = self.run
        # What is renewed may have gone since, and must not come back; and only what it replaces
        # knows all that its content was made from.
        context.renews = run.renewed
        if run.broken or (run.renewed and context.stale_value != self.stale):
            return self._kept(context)
        return run.keep(context, self)

    def _is_validated_elsewhere(self, context: LoadContext) -> bool:
        """Return whether another server has stored something in place of what was stale here."""
        now, stale, found = self.origin.clock.wall(), self.stale, context.stale_value
        if stale is None or stale.reuse(None, now=now) == "fresh":
            return False
        return isinstance(found, StoredResponse) and found.reuse(None, now=now) == "fresh"

    def _kept(self, context: LoadContext) -> Record:
        """Leave what is stored as it is."""
        held = context.stale_value
        if not isinstance(held, StoredResponse):
            context.skip()
            return NOT_STORED
        context.tags, context.ttl = held.tags, kept_seconds(held, self.origin)
        return context.not_modified()

    def follow(self, record: Pointer) -> bool:
        """Go on to where a record leads; return whether there is such a place."""
        key = self.origin.keys.below(record, self.scope, self.fields)
        if key is None:
            return False
        self.trail = (*self.trail, self.key)
        self.key, self.over = key, False
        if isinstance(record, Variants):
            self.names = record.names
        else:
            self.search = record.rule
        return True

    def again(self, stale: StoredResponse, receive: Receive, send: Send) -> "Fill":
        """Return the same request, to validate or replace a response."""
        return self._same(self.scope, receive, send, stale)

    def behind(self, stale: StoredResponse) -> "Fill":
        """Return a request for the whole of the same, which nobody waits for."""
        headers = [each for each in self.scope["headers"] if each[0] not in PARTIAL]
        scope = {**self.scope, "method": "GET", "headers": headers}
        return self._same(scope, _silence(), _nobody, stale)

    def _same(self, scope: Scope, receive: Receive, send: Send, stale: StoredResponse) -> "Fill":
        fill = Fill(self.origin, scope, receive, send, self.fields)
        fill.key, fill.by_path, fill.trail = self.key, self.by_path, self.trail
        fill.search, fill.names, fill.stale = self.search, self.names, stale
        return fill


class Run:
    """The application's answer to a request that makes a record.

    Args:
        fill: The request.

    Attributes:
        forwarded: Why the request has come to the application.
        response: What is stored, or was validated.
        kept: Whether that is so.
        renewed: Whether that is what was stale, which is current.
        misled: Whether the response depends on other fields than the record says.
        unmatched: Whether it says that another response is current than the one asked about.
        broken: Whether the origin has failed, which says nothing of what is stored.
        failed: Whether it has where a stale response will do.
        received: What the application was told of a request that validates, to be told again.
        visible: Set it once others find the record; the last byte waits for that.
    """

    def __init__(self, fill: Fill) -> None:
        self.forwarded: Forwarded = "uri-miss" if fill.names is None else "vary-miss"
        if fill.stale is not None:
            self.forwarded = "stale"
        self.response: StoredResponse | None = None
        self.kept = self.renewed = self.misled = False
        self.unmatched = self.broken = self.failed = False
        self.visible = asyncio.Event()
        self._fill = fill
        self._scope = fill.scope
        self._origin = fill.origin
        self._rule = fill.origin.rule_for(fill.scope)
        # What is made for others, too, must not wait for one who reads slowly.
        self._client = Client(fill.send, fill.origin.begin)
        self._stale = fill.stale
        self._asked_at = fill.origin.clock.wall()
        self.received: list[Message] = []
        # A client that has something of it already may not need the whole.
        self._teed = _CONDITIONS.isdisjoint(fill.fields)
        self._remarks = Remarks()
        self._rested_on: frozenset[str] = frozenset()
        self._settled = asyncio.Event()
        self._passing = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._start: Message = {}
        self._fields: Fields = ()
        self._control = ResponseControl()
        self._lifetime = 0.0
        self._parts: list[bytes] | None = None
        self._size = 0
        # Whether the rest of what the application sends is of no use.
        self._answered = False
        # Whether it is for its client alone.
        self._passed = False
        if fill.left:
            self.leave()

    @classmethod
    def hearing(cls, fill: Fill, said: Fields, *, asked_at: float) -> "Run":
        """Return an answer that has been heard by another way: what was stale is current."""
        run = cls(fill)
        assert fill.stale is not None
        run._fields, run._asked_at = said, asked_at
        run._renew(fill.stale)
        return run

    # What makes the record.

    async def settle(self) -> None:
        """Run the application until it is clear what is stored."""
        self._running = self._origin.begin(self._run())
        try:
            await self._settled.wait()
        except asyncio.CancelledError:
            self._running.cancel()
            raise
        if self._running.done() and not self._running.cancelled():
            self._running.result()
        self._rested_on = tags_rested_on()

    def keep(self, context: LoadContext, fill: Fill) -> Record:
        """Say how the record at a fill's key is kept, and return it."""
        record = self._record(fill)
        if record is not None and self._remarks.private:
            self._origin.counts.refuse("private")
            record = None
        if record is None:
            context.skip()
            return NOT_STORED
        assert self.response is not None
        try:
            tags = context.tags = checked_tags(sorted(self._remarks.tags))
        except TierCacheError:
            # What cannot be a tag, or is one too many, may not be left out.
            context.skip()
            return NOT_STORED
        ttl, edge = kept_seconds(self.response, self._origin), self._origin.edge
        if isinstance(record, StoredResponse):
            self.kept, context.ttl = True, ttl
            fields = record.fields
            if edge is not None:
                fields = tuple(edge.told(fields, {*context.texts, *self._rested_on}))
            return replace(record, fields=fields, tags=tags)
        context.ttl = max(ttl, min(_POINTED * ttl, KEPT_STALE))
        return record

    def _record(self, fill: Fill) -> Record | None:
        """Return what belongs at a fill's key, if anything does."""
        if self.response is None or self._parts is None:
            return None
        fields = self.response.fields
        names, search = vary_of(fields), search_rule(fields)
        if names is None or not _is_at(fill, search):
            return None
        if fill.by_path and fill.search is None:
            return Searches(token_bytes(16), search)
        if names and fill.names is None:
            return Variants(token_bytes(16), self._origin.keys.widened(fill.key, names))
        return self.response if set(names) <= set(fill.names or ()) else None

    async def rest(self) -> StoredResponse | None:
        """Let the application end; return what answers its client, if it has not done that."""
        assert self._running is not None
        if self.response is not None and not self._teed:
            return self.response
        try:
            await asyncio.wait([self._running])
            await self._client.served()
        except asyncio.CancelledError:
            self.leave()
            raise
        self._running.result()
        return None

    def leave(self) -> None:
        """Note that the client has gone; others may wait for what is made."""
        self._client.leave()
        # Nobody is there who could ask again on seeing the end.
        self.visible.set()
        self._end_if_useless()

    def _end_if_useless(self) -> None:
        """End the application where it works for a client alone who has gone."""
        if self._passed and self._client.gone and self._running is not None:
            self._running.cancel()

    # The application's side.

    async def _run(self) -> None:
        REMARKS.set(self._remarks)
        if not self._origin.collects:
            CURRENT.set(None)
        fields = [each for each in self._scope["headers"] if each[0] not in _CONDITIONS]
        if self._rule is not None:
            fields = self._rule.shown(fields)
        if self._stale is not None:
            fields += validating(self._stale.fields)
        try:
            await self._origin.app({**self._scope, "headers": fields}, self._hear, self._take)
            if self._parts is not None and self.response is None:
                await self._give_up()  # It has not come to its end.
        except Exception:
            if self._start or not self._may_serve_stale(gone=True):
                raise
            self.broken = self.failed = True
        finally:
            self._settled.set()

    async def _hear(self) -> Message:
        """Return what the client sends, and that it has gone only when nobody else waits."""
        message = await self._fill.receive()
        if self._stale is not None and message["type"] == "http.request":
            self.received.append(message)
        if message.get("body"):
            # What is made of it is no answer to those who send none.
            self._remarks.private = True
        if message["type"] == "http.disconnect":
            await self._passing.wait()
        return message

    async def _take(self, message: Message) -> None:
        """Keep what the application sends, and pass it on."""
        kind = message["type"]
        if kind == START and not self._start:
            await self._begin(message)
        elif self._answered:
            return
        elif self._parts is None:
            await self._client.send(message)
        elif kind != BODY or self._size + len(message.get("body", b"")) > self._origin.max_body:
            self._origin.counts.refuse("size" if kind == BODY else kind.rpartition(".")[2])
            await self._give_up()
            await self._client.send(message)
        else:
            await self._collect(message, self._parts)

    async def _begin(self, message: Message) -> None:
        status = message["status"]
        fields = [(name.lower(), value) for name, value in message.get("headers", ())]
        validated = status == 304 and self._stale is not None
        if self._rule is not None and not (validated and not lines_of(fields, b"vary")):
            # What is stored says it already, with what its own fields have said.
            fields = self._rule.varying(fields)
        self._fields = fields
        self._start = {**message, "headers": self._fields}
        if status == 304 and self._stale is not None:
            self._renew(self._stale)
            return
        if status in _FAILURES and self._may_serve_stale():
            self.broken = self.failed = self._answered = True
            self._passing.set()
            self._settled.set()
            return
        # Trailers would be left out of what is sent again.
        refused = "trailers" if message.get("trailers") else self._refused(status)
        if refused is None:
            self._parts = []
        else:
            self.broken = status in _FAILURES
            self._pass()
            self._origin.counts.refuse(refused)
        told = self._origin.told(self.forwarded, stored=refused is None, detail=refused or "")
        shown, edge = self._origin.shown(self._fields), self._origin.edge
        if edge is not None and refused is None:
            # What it stands under is known only when it has ended.
            shown = edge.refused(shown)
        self._start["headers"] = [*shown, *told]
        if self._parts is None:
            await self._client.send(self._start)
        elif self._teed:
            self._client.post(self._start)

    def _may_serve_stale(self, *, gone: bool = False) -> bool:
        stale, origin = self._stale, self._origin
        if stale is None:
            return False
        if gone and origin.profile.stale_when_gone and stale.may_replace_silence():
            return True
        return stale.may_replace_error(now=origin.clock.wall())

    def _renew(self, stale: StoredResponse) -> None:
        """Let a response live on that the origin has said is current."""
        self._teed, self._answered = False, True
        origin, edge, said = self._origin, self._origin.edge, self._fields
        if not is_of(said, stale.fields):
            self.unmatched = True
            self._pass()
            return
        if lines_of(stale.fields, b"date") and not lines_of(said, b"date"):
            # It is of when it came (RFC 9110, 6.6.1).
            said = [*said, (b"date", formatdate(self._asked_at, usegmt=True).encode())]
        self.renewed = True
        held = stale.fields if edge is None else edge.plain(stale.fields)
        fields = updated(held, stored_fields(said, ResponseControl()))
        control = origin.control_of(fields)
        if stale.control.targeted and not control.targeted and not origin.heeds(control):
            # What was said to this cache alone is not stored with the others.
            control = stale.control
        lifetime = self._lifetime_of(stale.status, fields, control) or 0.0
        control = self._graced(control, lifetime)
        born_at = self._asked_at - age_of(said)
        self._remarks.tags.update(stale.tags, tags_of(fields, origin_of(self._scope)))
        self.response = stale.validated(
            origin.shown(said), control, born_at=born_at, fresh_until=born_at + lifetime
        )
        if self._reason(stale.status, fields, control, lifetime) is None:
            self._parts = []
        self._passing.set()
        self._settled.set()

    async def _collect(self, message: Message, parts: list[bytes]) -> None:
        body: bytes = message.get("body", b"")
        parts.append(body)
        self._size += len(body)
        if not message.get("more_body", False):
            self._complete(b"".join(parts))
            if self.response is None:
                self._origin.counts.refuse("length")
                await self._give_up(but=1)
                await self._client.send(message)
                return
            self._settled.set()
            # Who asks again on seeing the end must find it.
            await self.visible.wait()
            self._passing.set()
        if self._teed:
            self._client.post(message)

    def _complete(self, body: bytes) -> None:
        """Make the response that is stored, unless something of it is missing."""
        if lines_of(self._fields, b"content-length") in ([], [b"%d" % len(body)]):
            self.response = stored(
                int(self._start["status"]),  # not a subclass of it, as `HTTPStatus` is
                self._origin.shown(self._fields),
                body,
                self._control,
                lifetime=self._lifetime,
                asked_at=self._asked_at,
            )

    async def _give_up(self, but: int = 0) -> None:
        """Store nothing, and pass on what was held back; `but` the last parts of it."""
        parts = self._parts or []
        self._pass()
        if not self._teed:
            await self._client.send(self._start)
            for body in parts[: len(parts) - but]:
                await self._client.send({"type": BODY, "body": body, "more_body": True})

    def _pass(self) -> None:
        self._parts, self._passed = None, True
        self._passing.set()
        self._settled.set()
        self._end_if_useless()

    def _refused(self, status: int) -> str | None:
        """Return why a response is not stored, as far as its beginning tells; `None` if it is."""
        fields = self._fields
        control = self._origin.control_of(fields)
        lifetime = self._lifetime_of(status, fields, control)
        reason = self._reason(status, fields, control, lifetime)
        if reason is not None:
            return reason
        self._control, self._lifetime = self._graced(control, lifetime), lifetime or 0.0
        if self._is_misplaced():
            return "misplaced"
        sizes = lines_of(fields, b"content-length")
        if any(size.isdigit() and int(size[:18]) > self._origin.max_body for size in sizes):
            return "size"
        tags = self._remarks.tags
        tags.update(tags_of(fields, origin_of(self._scope)))
        try:
            if self._rule is not None:
                tags.update(self._rule.tags_for(path_of(self._scope)))
            checked_tags(tags)
        except TierCacheError:
            return "tags"
        return "private" if self._remarks.private else None

    def _is_misplaced(self) -> bool:
        """Return whether a response belongs elsewhere than where its request has looked."""
        fill, search = self._fill, search_rule(self._fields)
        if not _is_at(fill, search):
            self.misled = fill.by_path
            if not fill.by_path:
                self._origin.keys.learn(self._scope)
            return True
        more = set(vary_of(self._fields) or ()).difference(fill.names or ())
        self.misled = fill.names is not None and bool(more)
        if self.misled:
            # The next record shall do for both.
            self._origin.keys.widen(fill.trail[-1], more.union(fill.names or ()))
        return self.misled

    def _graced(self, control: ResponseControl, lifetime: float | None) -> ResponseControl:
        return control if self._rule is None else self._rule.graced(control, lifetime)

    def _lifetime_of(self, status: int, fields: Fields, control: ResponseControl) -> float | None:
        origin, rule = self._origin, self._rule
        default = None if rule is None else rule.ttl_for(self._fill.fields)
        return lifetime_of(
            status, fields, control,
            profile=origin.profile, now=origin.clock.wall(), default=default,
        )  # fmt: skip

    def _reason(
        self, status: int, fields: Fields, control: ResponseControl, lifetime: float | None
    ) -> str | None:
        """Return why a response is not stored, if it is not."""
        reason = refusal(
            self._scope["method"], self._scope["headers"], status, fields, control,
            profile=self._origin.profile, lifetime=lifetime,
        )  # fmt: skip
        if reason is not None or vary_of(fields) is None:
            return reason or "vary"
        usable = not control.no_cache and (lifetime or 0.0) > age_of(fields)
        return None if usable or validating(fields) else "lifetime"


def kept_seconds(response: StoredResponse, origin: Origin) -> float:
    """Return for how much longer a response is kept, fresh or stale."""
    control = response.control
    beyond: float = max(control.stale_while_revalidate or 0, control.stale_if_error or 0)
    if validating(response.fields) or origin.profile.stale_when_gone:
        beyond = max(beyond, KEPT_STALE)
    return max(_SHORTEST, response.fresh_until - origin.clock.wall() + beyond)


def _is_at(fill: Fill, search: SearchRule) -> bool:
    """Return whether a response is looked for where it is, by what its query means."""
    if fill.by_path and fill.search is None:
        return search != EXACT
    return search == (fill.search or EXACT)


def _silence() -> Receive:
    """Be a client who has sent all, and is gone once the response has ended."""
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    return receive


async def _nobody(_: Message) -> None:
    """Be no client."""


FILL: ContextVar[Fill] = ContextVar("tiercache_http_fill")
"""The request that makes a record, in the context of whoever leads the load."""
