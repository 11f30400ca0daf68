"""Finds the record that answers a request, or lets the request make it."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from async_tiercache import LoadContext, Missing, TierCache
from async_tiercache._operations import Operations
from async_tiercache._outcome import copy_of
from async_tiercache.errors import LoadTimeoutError, RecursiveLoadError
from async_tiercache.http.fields import Fields
from async_tiercache.http.stored import StoredResponse
from async_tiercache.http.target import groups_of
from async_tiercache.keys import KeyText
from async_tiercache_integrations._http_fill import FILL, Fill
from async_tiercache_integrations._http_keys import Bounded, Scope, Way, keys_ended, origin_of
from async_tiercache_integrations._http_origin import Origin
from async_tiercache_integrations._http_records import (
    NOT_STORED,
    NotStored,
    Record,
    Searches,
    Variants,
    group_tag,
)
from async_tiercache_integrations._http_run import Outcome, Run

LONGEST: Final = 300.0
"""For how long an application may make a response that others wait for, in seconds."""
PASS_SECONDS: Final = 10.0
"""For how long requests do not wait for one another whose responses are not stored."""


class Lookup:
    """The records of a cache.

    Args:
        cache: Keeps them.
        origin: The application that makes the responses.
    """

    def __init__(self, cache: TierCache, origin: Origin) -> None:
        self._cache = cache
        self._origin = origin
        self._keys = origin.keys
        self._passed_on: Bounded[str, float] = Bounded()
        self._validating: dict[str, asyncio.Future[Record]] = {}
        self._waiting: dict[str, set[Fill]] = {}

        # What makes them is found in the context: the request of whoever leads the load. Whether
        # they are too large is decided there, by their contents.
        @cache.cached(
            "http:{key}", on_abandon="finish", load_limit=LONGEST, max_value_bytes=None,
            grace=0, early=0, jitter=0,
        )  # fmt: skip
        async def http_response(key: KeyText, context: LoadContext = LoadContext()) -> Record:
            fill = FILL.get()
            record = await fill.load(context, self._read)
            if fill.run is not None:
                for each in self._waiting.get(key, ()):
                    each.made = record, fill.run.forwarded
            return record

        self._record = cast("Any", http_response)
        operations: Operations = self._record.__tiercache__
        self._is_loading = operations.is_loading
        self._try_refresh = operations.try_refresh
        self.peek: Callable[[KeyText], Record | Missing] = self._record.peek
        self.peek_past: Callable[[KeyText, Record | None, KeyText], Record | Missing]
        self.peek_past = operations.path.peek_past or self._peek_past

    def _peek_past(self, key: KeyText, passed: Record | None, beyond: KeyText) -> Record | Missing:
        """Return what memory has under a key, or if that is `passed`, under another one."""
        record = self.peek(key)
        return self.peek(beyond) if record is passed else record

    def below(
        self, record: Any, way: Way, scope: Scope, fields: Mapping[bytes, bytes]
    ) -> StoredResponse | None:
        """Return what memory has for a request where its URL's record leads.

        Args:
            record: What was found for the URL.
            way: What is known of the URL.
            scope: The request.
            fields: Those of its fields that are heeded.
        """
        first = record
        while type(record) is Variants or type(record) is Searches:
            key = self._keys.below(record, scope, fields)
            if key is None:
                return None
            if record is first and type(record) is Variants and len(record.names) == 1:
                self._keys.lead(way, record, fields, key)
            record = self.peek(key)
        return record if type(record) is StoredResponse else None

    async def find(self, fill: Fill) -> Record | None:
        """Return what answers a request; `None` if it has asked the application itself."""
        with self._asking(fill):
            while True:
                if fill.key in self._passed_on and self._is_passed_on(fill.key):
                    return NOT_STORED
                record = await self._found_or_made(fill)
                if record is None:
                    return NOT_STORED
                # Not if it was cancelled: then its load may still begin, for others.
                fill.over = True
                if fill.run is not None:
                    await self._keep_below(fill, record)
                    return None
                if type(record) is StoredResponse:
                    fill.note(record)
                    return record
                if not self._leads_on(fill, record):
                    return NOT_STORED

    async def _found_or_made(self, fill: Fill) -> Record | None:
        """Return a record; `None` if another request makes it, for which this one may not wait."""
        if fill.waits:
            return await self._awaited(fill)
        return await self._stored(fill) or await self._made_alone(fill)

    async def _stored(self, fill: Fill) -> Record | None:
        """Return the record that is stored, or is about to be, if the request may wait for that."""
        if not fill.waits and self._is_loading(fill.key):
            return None
        record: Record | None = _shared(await self._cache.get(fill.key, None))
        return record

    async def _made_alone(self, fill: Fill) -> Record | None:
        """Return the record that a request makes; `None` if another one is about to make it."""
        record: Record | Missing = await self._try_refresh(fill.key)
        return None if isinstance(record, Missing) else record

    async def _awaited(self, fill: Fill) -> Record:
        """Return the record of a request's key, and note whether another request has made it."""
        key, fill.made = fill.key, None
        waiting = self._waiting.setdefault(key, set())
        waiting.add(fill)
        try:
            record: Record = _shared(await self._record(key))
        finally:
            waiting.discard(fill)
            if not waiting:
                self._waiting.pop(key, None)
        if fill.run is None and fill.made is not None and fill.made[0] == record:
            # And not one that L2 had. What a record leads to then was made with it.
            fill.collapsed = fill.made[1]
        return record

    @contextmanager
    def _asking(self, fill: Fill) -> Generator[None]:
        """Let a request make the records that are loaded here.

        Raises:
            RecursiveLoadError: It has come from the application that makes its very response.
        """
        token = FILL.set(fill)
        try:
            yield
        except BaseException as error:
            _leave(fill)
            nested = isinstance(error, RecursiveLoadError) and error.key == fill.key
            if nested and fill.run is None:
                raise _nested(fill) from error
            raise
        finally:
            FILL.reset(token)
            if fill.run is not None:
                fill.run.visible.set()

    async def held(self, fill: Fill) -> Record:
        """Return what is stored for a request, without making it."""
        while True:
            record = await self._stored(fill)
            if isinstance(record, StoredResponse):
                return record
            if not isinstance(record, Variants | Searches) or not fill.follow(record):
                return NOT_STORED

    async def _read(self, key: str) -> Record:
        """Return a record that is stored, without making it."""
        record: Record = _shared(await self._cache.get(key, NOT_STORED))
        return record

    async def validated(self, fill: Fill) -> Record:
        """Ask the origin whether a response is current; return what that has brought for all.

        If the request may not wait for another one that is about to do so, nothing has been.
        """
        ended: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        key = fill.key
        # One that may not wait comes beside others.
        self._validating.setdefault(key, ended)
        try:
            with self._asking(fill):
                record = await self._refreshed(fill)
                if record is None:
                    return NOT_STORED
                fill.over = True
                outcome = None if fill.run is None else fill.run.outcome
                if outcome is not None and not outcome.failed and outcome.answers:
                    await self._keep_below(fill, record)
            record = self._for_all(fill, record)
            ended.set_result(record)
        except Exception as error:
            ended.set_exception(error)
            ended.exception()  # which nobody may have waited for
            raise
        finally:
            if self._validating.get(key) is ended:
                del self._validating[key]
            ended.cancel()  # unless it is done
        return record

    async def _refreshed(self, fill: Fill) -> Record | None:
        """Return what a validation has brought, or what is stale if that took too long.

        Returns:
            `None` if another request validates it, for which this one may not wait.

        Raises:
            LoadTimeoutError: Nothing may take the place of the answer, or not any more.
        """
        try:
            if not fill.waits:
                return await self._made_alone(fill)
            record: Record = await self._record.refresh(fill.key)
        except LoadTimeoutError:
            held = await self.held(fill)
            if fill.run is None or held != fill.stale or not fill.run.cover():
                raise
            return held
        return record

    def _for_all(self, fill: Fill, record: Record) -> Record:
        """Return what a validation has brought, if that is for others than its client, too."""
        outcome = None if fill.run is None else fill.run.outcome
        if not isinstance(record, StoredResponse) or outcome is Outcome.COVERED:
            return record
        reuse = record.reuse(None, now=self._origin.clock.wall())
        return NOT_STORED if reuse == "validate" or outcome is Outcome.BROKEN else record

    async def validated_by_others(self, fill: Fill, *, anew: bool) -> Record | None:
        """Return what the validation in progress has brought for all.

        `None` if nobody validates, or if the request may not wait for others.

        Args:
            fill: The request.
            anew: Whether it must have begun after the request.

        Raises:
            Exception: Whatever the application has raised; each who waits gets a copy.
        """
        while fill.waits and (others := self._validating.get(fill.key)) is not None:
            await asyncio.wait([others])
            if anew or others.cancelled():
                # If its client has gone, one of those who have waited goes on.
                anew = False
                continue
            error = others.exception()
            if error is not None:
                raise copy_of(error)
            return others.result()
        return None

    def validate_behind(self, fill: Fill, stale: StoredResponse) -> None:
        """Validate a response while its client is answered with it."""
        if fill.key not in self._validating:
            self._origin.begin(self._validated_quietly(fill.behind(stale)))

    def renew_behind(
        self,
        fill: Fill,
        stale: StoredResponse,
        said: Fields,
        *,
        asked_at: float,
        key: KeyText | None = None,
    ) -> None:
        """Let a response live on of which the origin has said, by these fields, that it is.

        Args:
            fill: The request.
            stale: What is stored.
            said: The fields.
            asked_at: When the origin was asked.
            key: That of the response, if it is another variant's.
        """
        again = fill.behind(stale)
        again.key = key or again.key
        again.run = Run.hearing(again, said, asked_at=asked_at)
        self._origin.begin(self._validated_quietly(again))

    async def _validated_quietly(self, fill: Fill) -> None:
        await self.validated(fill)

    async def end(self, *keys: str) -> None:
        """Let records be found no more."""
        await self._cache.invalidate(keys=keys)

    async def end_named(self, scope: Scope, response: Fields) -> None:
        """End the records that a change names as concerned (RFC 9111, 4.4; RFC 9875).

        Args:
            scope: The request that has made the change.
            response: The fields of what has answered it.
        """
        origin = self._origin
        await self.end(*keys_ended(scope, response, parts=origin.profile.parts))
        named = groups_of(response, b"cache-group-invalidation") if origin.groups else ()
        if named:
            # What is in one may be current still, and is not served before a 304 has said so.
            tags = [group_tag(origin_of(scope), group) for group in named]
            await self._cache.invalidate(tags=tags, soft=0)

    async def _keep_below(self, fill: Fill, record: Record) -> None:
        """Keep what a request has made where its record leads."""
        run, below = fill.run, self._record if fill.waits else self._try_refresh
        assert run is not None
        while isinstance(record, Variants | Searches) and fill.follow(record):
            record = await below(fill.key)
        fill.over = True
        if fill.misled:
            # What has led here says something else than the response.
            ended = fill.trail or (fill.key,)
            for key in ended:
                self._origin.keys.forget(key)
            await self.end(*ended)
        elif run.response is None and not self._search_again(fill):
            self._pass_on(fill.key)
        if run.named is not None and fill.kept:
            # It is current for those, too, for whom it was stored (RFC 9111, 4.3.4).
            self.renew_behind(fill, run.named, run.said, asked_at=run.asked_at, key=run.key_named)

    def _leads_on(self, fill: Fill, record: Any) -> bool:
        """Go on from a record that is no response; return whether there is somewhere to go."""
        if not isinstance(record, NotStored):
            return fill.follow(record)
        if self._search_again(fill):
            return True
        self._pass_on(fill.key)
        return False

    def _search_again(self, fill: Fill) -> bool:
        """Return whether a response was found to be kept with its path meanwhile; go there then."""
        return not (fill.trail or fill.by_path) and fill.begin_again()

    def _pass_on(self, key: str) -> None:
        self._passed_on.add(key, self._origin.clock.monotonic() + PASS_SECONDS)

    def _is_passed_on(self, key: str) -> bool:
        if self._origin.clock.monotonic() < self._passed_on[key]:
            return True
        del self._passed_on[key]
        return False


def _shared(record: Any) -> Any:
    """Return a record that may come from L2, where nothing is shared, as L1 is to hold it."""
    if type(record) is StoredResponse or type(record) is Variants:
        record.share()
    return record


def _leave(fill: Fill) -> None:
    """Note that a client has gone, or was told of an error; its load may only begin after that."""
    fill.left = True
    if fill.run is not None:
        fill.run.leave()


def _nested(fill: Fill) -> RecursiveLoadError:
    """Return what tells of a request that waits for itself."""
    return RecursiveLoadError(
        f"The response to {fill.scope['path']!r} waits for itself: the application that makes it"
        " has come to a ResponseCache over the same cache",
        key=fill.key,
        hint="Put one ResponseCache around an application for each cache, and let it not ask for"
        " its own URL.",
    )
