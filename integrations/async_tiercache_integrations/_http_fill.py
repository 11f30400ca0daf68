"""A request that makes a record: where it looks for that, and what it puts there."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from secrets import token_bytes
from typing import Final, TypeAlias

from async_tiercache import LoadContext
from async_tiercache._inside import tags_rested_on
from async_tiercache.errors import RecursiveLoadError, TierCacheError, UsageError
from async_tiercache.http.fields import Fields, joined
from async_tiercache.http.ranges import asks_for_one_part
from async_tiercache.http.status import Forwarded
from async_tiercache.http.stored import StoredResponse
from async_tiercache.http.target import EXACT, SearchRule, search_rule
from async_tiercache.http.vary import vary_of
from async_tiercache.keys import KeyText
from async_tiercache.tags import checked_tags
from async_tiercache_integrations._http_keys import Scope, parts_key
from async_tiercache_integrations._http_origin import Message, Origin, Receive, Send
from async_tiercache_integrations._http_records import (
    NOT_STORED,
    Pointer,
    Record,
    Searches,
    Variants,
)
from async_tiercache_integrations._http_run import Outcome, Run
from async_tiercache_integrations._http_terms import AUTHORIZATION, KEPT_STALE, kept_seconds

_POINTED: Final = 10
"""So many lifetimes of its first response a record that leads to others is kept."""

Read: TypeAlias = Callable[[str], Awaitable[Record]]
"""Returns what is stored under a key."""

PARTIAL: Final = frozenset({b"range", b"if-range"})
"""Fields of requests that do not make the whole: what they ask for may be small, and that large."""


class Fill:
    """A request that may make a record, or validate one; most find theirs and do neither.

    Args:
        origin: The application.
        scope: The request.
        receive: Its client's.
        send: Its client's.

    Attributes:
        fields: The request's fields, by name.
        key: The key of the record.
        by_path: Whether it began at the key of a path.
        part: Whether the record is of parts that the application makes, not of the whole.
        trail: The keys of the records that have led here.
        search: What tells the URLs of the path apart that share responses, if they do.
        names: The fields that the URL's variants are told apart by; `None` where it has none, or
            where that is not known yet.
        variants: The record that says so.
        misled: Whether the records that have led here say something else than the response.
        stale: The response that is to be validated, or replaced.
        ended: Whether it was invalidated softly, so that only a 304 lets it be served again.
        run: The application's answer to it, if it was asked.
        kept: Whether that is stored.
        made: What another request has made meanwhile where this one waits, and why that went on.
        collapsed: Why that went on, if it is what answers this one.
        over: Whether nobody waits for it any more who would need an answer.
        left: Whether its client has gone.
    """

    # What most requests never change is not set for each of them.
    by_path = False
    part = False
    trail: tuple[str, ...] = ()
    search: SearchRule | None = None
    names: tuple[bytes, ...] | None = None
    variants: Variants | None = None
    misled = False
    stale: StoredResponse | None = None
    ended = False
    run: Run | None = None
    kept = False
    made: tuple[Record, Forwarded] | None = None
    collapsed: Forwarded | None = None
    over = False
    left = False
    _rested_on: frozenset[str] = frozenset()

    def __init__(
        self,
        origin: Origin,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.origin = origin
        self.scope = scope
        self.receive = receive
        self.send = send
        self.fields = joined(scope["headers"])
        self.key = origin.keys.of(scope, self.fields)
        if origin.keys.searched:
            self.by_path = self.key in origin.keys.searched

    @property
    def waits(self) -> bool:
        """Whether it may wait for another request's response (R18)."""
        # When an answer comes would tell whoever guesses credentials what others ask for.
        return AUTHORIZATION not in self.fields

    # Where the record is.

    def for_part(self) -> "Fill | None":
        """Return the same request for the very part that it asks for; `None` if none is kept.

        Parts are what a `Vary: Range` would make of them, at a key of their own: each is sent only
        to who asks for the same one, and all end with the record there.
        """
        if (
            not self.origin.profile.parts
            or self.scope["method"] != "GET"
            or not asks_for_one_part(self.fields)
        ):
            return None
        fill = Fill(self.origin, self.scope, self.receive, self.send)
        if fill.by_path:
            return None  # What ends one of such URLs would leave the parts of the others.
        fill.key, fill.part = parts_key(self.scope), True
        return fill

    def begin_again(self) -> bool:
        """Go to where a request begins by what was learnt since; return whether that is a path."""
        if self.part:
            return False
        keys, self.over = self.origin.keys, False
        self.key = keys.of(self.scope, self.fields)
        self.by_path = self.key in keys.searched
        return self.by_path

    def follow(self, record: Pointer) -> bool:
        """Go on to where a record leads; return whether there is such a place."""
        key = self.origin.keys.below(record, self.scope, self.fields)
        if key is None:
            return False
        self.trail = (*self.trail, self.key)
        self.key, self.over = key, False
        if isinstance(record, Variants):
            self.names, self.variants = record.names, record
        else:
            self.search = record.rule
        return True

    def is_misplaced(self, response: Fields) -> bool:
        """Return whether a response belongs elsewhere than here; the next request will know."""
        keys = self.origin.keys
        if not self._is_at(search_rule(response)):
            self.misled = self.by_path
            if not self.by_path:
                keys.learn(self.scope)
            return True
        names = {*(vary_of(response) or ()), *(self.names or ())}
        self.misled = self.names is not None and len(names) > len(self.names)
        if self.misled:
            # The next record shall do for both.
            keys.widen(self.trail[-1], names)
        return self.misled

    def _is_at(self, search: SearchRule) -> bool:
        """Return whether a response is looked for here, by what its query means."""
        if self.by_path and self.search is None:
            return search != EXACT
        return search == (self.search or EXACT)

    # What else there is of its URL.

    def note(self, response: StoredResponse) -> None:
        """Remember the tag of the variant that was found or made, to ask about it for others."""
        if self.variants is not None and not self._is_authorized:
            conditions = self.origin.validating(response)
            self.origin.offers.note(
                self.variants, self.key, self.fields, response.fields, conditions
            )

    def others(self) -> dict[bytes, KeyText]:
        """Return by their tags the other variants that may be what the request asks for, too."""
        if self.variants is None or self._is_authorized:
            return {}
        return self.origin.offers.others(self.variants, self.key, self.fields)

    def mute(self) -> None:
        """Ask about no other variants any more."""
        assert self.variants is not None
        self.origin.offers.mute(self.variants)

    @property
    def _is_authorized(self) -> bool:
        # What somebody may see is no matter of what he prefers.
        return AUTHORIZATION in self.fields

    # What is put there.

    async def load(self, context: LoadContext, read: Read) -> Record:
        """Ask the application, or keep what it has said already.

        Args:
            context: Of the load.
            read: Finds another variant, on whose evidence rests what is made of it here.
        """
        if self.run is None and self._is_validated_elsewhere(context):
            return self._left_as_it_is(context)
        if self.over:
            # A check against the source, which would send an answer to somebody who has one.
            raise UsageError(
                "The request is over, and there is nobody to make a response for",
                hint="Invalidate responses; only requests make them.",
            )
        run = self.run
        if run is None:
            self._compare(context)
            run = await self._asked(Run(self))
            if run.outcome is Outcome.NAMED:
                await self._select(run, read)
            if run.outcome is Outcome.UNMATCHED:
                run = await self._asked(run.again())
            self._rested_on = tags_rested_on()
        # What is renewed may have gone since, and must not come back; and only what it replaces
        # knows all that its content was made from. What was named was read in this load.
        renews = context.renews = run.outcome.renews and run.named is None
        if run.outcome.failed or (renews and context.stale_value != self.stale):
            return self._left_as_it_is(context)
        return self._made(run, context)

    def _compare(self, context: LoadContext) -> None:
        """Ask about what was invalidated with its group, which may be current still."""
        held, self.ended = context.stale_value, context.ended
        if (
            self.ended
            and self.stale is None
            and isinstance(held, StoredResponse)
            and not self._is_authorized
            and self.origin.validating(held)
        ):
            self.stale = held

    async def _asked(self, run: Run) -> Run:
        """Return a run once it is clear what becomes of it."""
        self.run = run
        if self.left:
            run.leave()
        await run.settle()
        return run

    async def _select(self, run: Run, read: Read) -> None:
        """Let the variant that was named as current be what answers, if it is still there."""
        assert self.variants is not None
        key = run.key_named
        try:
            found = await read(key)
        except RecursiveLoadError:
            found = NOT_STORED  # Its own load waits for this one.
        if not run.select(found):
            self.origin.offers.forget(self.variants, key)

    def _is_validated_elsewhere(self, context: LoadContext) -> bool:
        """Return whether another server has stored something in place of what was stale here."""
        now, stale, found = self.origin.clock.wall(), self.stale, context.stale_value
        if context.ended or stale is None or stale.reuse(None, now=now) == "fresh":
            return False
        return isinstance(found, StoredResponse) and found.reuse(None, now=now) == "fresh"

    def _left_as_it_is(self, context: LoadContext) -> Record:
        """Return what is stored, which stays so."""
        held = context.stale_value
        if not isinstance(held, StoredResponse) or context.ended:
            context.skip()
            return NOT_STORED
        context.tags, context.ttl = held.tags, kept_seconds(held, self.origin)
        return context.not_modified()

    def _made(self, run: Run, context: LoadContext) -> Record:
        """Return what the application has made of the record, and say how that is kept."""
        record, response, remarks = self._record(run), run.response, run.remarks
        if record is not None and remarks.private:
            self.origin.counts.refuse("private")
            record = None
        if record is None or response is None:
            context.skip()
            return NOT_STORED
        try:
            tags = context.tags = checked_tags(sorted(remarks.tags))
        except TierCacheError:
            # What cannot be a tag, or is one too many, may not be left out.
            context.skip()
            return NOT_STORED
        ttl, edge = kept_seconds(response, self.origin), self.origin.edge
        if not isinstance(record, StoredResponse):
            context.ttl = max(ttl, min(_POINTED * ttl, KEPT_STALE))
            return record
        self.kept, context.ttl = True, ttl
        self.note(record)
        fields = record.fields
        if edge is not None:
            fields = tuple(edge.told(fields, {*context.texts, *self._rested_on}))
        return replace(record, fields=fields, tags=tags)

    def _record(self, run: Run) -> Record | None:
        """Return what belongs here of what the application has made, if anything does."""
        response = run.response
        if response is None or run.outcome is Outcome.SPENT:
            return None
        names, search = vary_of(response.fields), search_rule(response.fields)
        if names is None or not self._is_at(search):
            return None
        if self.part:
            names = tuple(sorted({*names, b"range"}))
        if self.by_path and self.search is None:
            return Searches(token_bytes(16), search)
        if names and self.names is None:
            return Variants(token_bytes(16), self.origin.keys.widened(self.key, names))
        return response if set(names) <= set(self.names or ()) else None

    # The same request again.

    def again(self, stale: StoredResponse, receive: Receive, send: Send) -> "Fill":
        """Return the same request, to validate or replace a response."""
        return self._same(self.scope, receive, send, stale)

    def behind(self, stale: StoredResponse) -> "Fill":
        """Return a request for what is stored of the same, which nobody waits for."""
        scope = {**self.scope, "method": "GET"}
        if not self.part:
            scope["headers"] = [each for each in scope["headers"] if each[0] not in PARTIAL]
        return self._same(scope, _silence(), _nobody, stale)

    def _same(self, scope: Scope, receive: Receive, send: Send, stale: StoredResponse) -> "Fill":
        fill = Fill(self.origin, scope, receive, send)
        fill.key, fill.by_path, fill.trail = self.key, self.by_path, self.trail
        fill.part = self.part
        fill.search, fill.names, fill.stale = self.search, self.names, stale
        fill.variants = self.variants
        return fill


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
