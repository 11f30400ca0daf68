"""The application's answer to a request that makes a record: heard to its end, and passed on."""

import asyncio
from email.utils import formatdate
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from async_tiercache._inside import CURRENT
from async_tiercache._tasks import end_of
from async_tiercache.errors import TierCacheError
from async_tiercache.http.conditions import is_of, updated
from async_tiercache.http.control import ResponseControl
from async_tiercache.http.fields import Fields, joined, lines_of
from async_tiercache.http.rules import stored_fields
from async_tiercache.http.status import Forwarded
from async_tiercache.http.stored import StoredResponse, stored
from async_tiercache.keys import KeyText
from async_tiercache.tags import checked_tags
from async_tiercache_integrations._http_advice import advice_on, reflected
from async_tiercache_integrations._http_keys import origin_of
from async_tiercache_integrations._http_origin import (
    BODY,
    REMARKS,
    START,
    Client,
    Message,
    Remarks,
    fields_of,
    read_again,
)
from async_tiercache_integrations._http_records import Record
from async_tiercache_integrations._http_terms import CONDITIONS, Terms, Verdict

if TYPE_CHECKING:
    from async_tiercache_integrations._http_fill import Fill

_FAILURES: Final = frozenset({500, 502, 503, 504})


class Outcome(Enum):
    """What becomes of the application's answer.

    Attributes:
        AWAITED: Nothing has come yet.
        COMING: It is stored, if it comes to its end.
        WHOLE: It has, and is a response that may be stored.
        RENEWED: What is stale is current, and lives on.
        SPENT: What is stale is current, but may not be kept any more.
        NAMED: It says that another variant is current than the one asked for.
        UNMATCHED: It says that another response is current than those asked about.
        PASSED: It is for its client alone.
        BROKEN: The origin has failed, which says nothing of what is stored; its client is told.
        COVERED: The origin has failed, and the stale response takes the place of that.
    """

    AWAITED = auto()
    COMING = auto()
    WHOLE = auto()
    RENEWED = auto()
    SPENT = auto()
    NAMED = auto()
    UNMATCHED = auto()
    PASSED = auto()
    BROKEN = auto()
    COVERED = auto()

    @property
    def renews(self) -> bool:
        """Whether what is stale is current."""
        return self in {Outcome.RENEWED, Outcome.SPENT}

    @property
    def failed(self) -> bool:
        """Whether the origin has failed."""
        return self in {Outcome.BROKEN, Outcome.COVERED}

    @property
    def answers(self) -> bool:
        """Whether it answers its client."""
        return self not in {Outcome.UNMATCHED, Outcome.COVERED}

    @property
    def is_for_one(self) -> bool:
        """Whether it is of no use to anybody but its client."""
        return self in {Outcome.UNMATCHED, Outcome.PASSED, Outcome.BROKEN}


class Run:
    """The application's answer to a request that makes a record.

    Args:
        fill: The request.
        before: The one before, if that has brought nothing: now no condition is put.

    Attributes:
        forwarded: Why the request has come to the application.
        outcome: What becomes of the answer.
        response: What may be stored, or was validated.
        remarks: What was said of it while it was made.
        status: The status code of the answer, once that has begun.
        received: What the application was told of a request with a condition, to be told again.
        key_named: The key of the variant that it has named as current.
        named: That, once it was found.
        said: The fields of the answer that has named it.
        asked_at: When the application was asked.
        visible: Set it once others find the record; the last byte waits for that.
    """

    key_named: KeyText
    named: StoredResponse | None = None
    said: Fields = ()

    def __init__(self, fill: "Fill", before: "Run | None" = None) -> None:
        self.forwarded: Forwarded = "uri-miss" if fill.names is None else "vary-miss"
        if fill.part:
            self.forwarded = "miss"  # There may be other parts, which are no variants.
        if fill.stale is not None:
            self.forwarded = "stale"
        self.outcome = Outcome.AWAITED
        self.response: StoredResponse | None = None
        self.remarks = Remarks()
        self.status: int | None = None
        self.received: list[Message] = []
        self.visible = asyncio.Event()
        self.asked_at = fill.origin.clock.wall()
        self._fill = fill
        self._receive = fill.receive
        self._origin = fill.origin
        self._terms = Terms(fill.origin, fill.scope, fill.fields)
        # What is made for others, too, must not wait for one who reads slowly.
        self._client = Client(fill.send, fill.origin.begin)
        # A client that has something of it already may not need the whole.
        self._teed = CONDITIONS.isdisjoint(fill.fields)
        self._others: dict[bytes, KeyText] = {}
        self._conditions: Fields = ()
        if before is None:
            self._conditions = self._asking()
        else:
            self._receive = read_again(before.received, fill.receive)
        # What was not asked about may be renewed all the same, unless it was invalidated.
        kept = fill.stale is not None and not fill.ended
        self._validates = bool(self._conditions) or (kept and before is None)
        self._settled = asyncio.Event()
        self._passing = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._start: Message = {}
        self._fields: Fields = ()
        self._verdict: Verdict | None = None
        self._parts: list[bytes] = []
        self._size = 0

    @classmethod
    def hearing(cls, fill: "Fill", said: Fields, *, asked_at: float) -> "Run":
        """Return an answer that has been heard by another way: what was stale is current."""
        run = cls(fill)
        assert fill.stale is not None
        run.asked_at = asked_at
        run._renew(fill.stale, said)
        return run

    def again(self) -> "Run":
        """Return the answer to the same request where this one has brought nothing."""
        return Run(self._fill, self)

    def select(self, found: Record) -> bool:
        """Let the variant that was named be what answers; return whether this is it."""
        tag = lines_of(self.said, b"etag")
        if not isinstance(found, StoredResponse) or lines_of(found.fields, b"etag") != tag:
            self.outcome = Outcome.UNMATCHED
            return False
        self.named = found
        self._renew(found, self.said)
        return True

    # The client's side.

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

    async def rest(self) -> StoredResponse | None:
        """Let the application end; return what answers its client, if it has not done that."""
        assert self._running is not None
        made = None if self._teed else self.response
        try:
            if made is None:
                await asyncio.wait([self._running])
            await self._client.served()
        except asyncio.CancelledError:
            self.leave()
            raise
        if made is None:
            self._running.result()
        return made

    async def ended(self) -> None:
        """Return when the application has ended; raise what it has raised after its response."""
        assert self._running is not None
        await end_of(self._running)

    def leave(self) -> None:
        """Note that the client has gone; others may wait for what is made."""
        self._client.leave()
        # Nobody is there who could ask again on seeing the end.
        self.visible.set()
        self._end_if_useless()

    def cover(self) -> bool:
        """Let what is stale take the place of an application that was too slow, if it may."""
        if self.outcome is not Outcome.AWAITED or not self._may_serve_stale(gone=True):
            return False
        self._settle(Outcome.COVERED)
        return True

    # The application's side.

    async def _run(self) -> None:
        REMARKS.set(self.remarks)
        if not self._origin.collects:
            CURRENT.set(None)
        scope = self._terms.scope(self._conditions)
        try:
            await self._origin.app(scope, self._hear, self._take)
            if self.outcome is Outcome.COMING:
                await self._give_up()  # It has not come to its end.
        except Exception:
            if self.outcome is not Outcome.AWAITED or not self._may_serve_stale(gone=True):
                raise
            self._settle(Outcome.COVERED)
        finally:
            self._settled.set()

    def _asking(self) -> Fields:
        """Return by which conditions to ask what is current of what is stored (RFC 9111, 4.3.1)."""
        stale, others = self._fill.stale, self._fill.others()
        own = [] if stale is None else self._origin.validating(stale)
        tags = [value for name, value in own if name == b"if-none-match"]
        if not others or (stale is not None and len(tags) != 1):
            return own
        # What is its own comes first, and counts if another one has the same tag.
        self._others = {tag: key for tag, key in others.items() if tag not in tags}
        told = (b"if-none-match", b", ".join([*tags, *self._others]))
        return [told, *(each for each in own if each[0] != b"if-none-match")]

    async def _hear(self) -> Message:
        """Return what the client sends, and that it has gone only when nobody else waits."""
        message = await self._receive()
        if self._conditions and message["type"] == "http.request":
            self.received.append(message)
        if message.get("body"):
            # What is made of it is no answer to those who send none.
            self.remarks.private = True
        if message["type"] == "http.disconnect":
            await self._passing.wait()
        return message

    async def _take(self, message: Message) -> None:
        """Keep what the application sends, and pass it on."""
        match self.outcome:
            case Outcome.AWAITED if message["type"] == START:
                await self._begin(message)
            case Outcome.COMING:
                await self._collect(message)
            case Outcome.AWAITED:
                # Such as early hints: who does not take them must not hold up all who wait.
                self._client.post(message)
            case Outcome.PASSED | Outcome.BROKEN:
                await self._client.send(message)
            case _:
                pass  # It has been answered without the rest.

    async def _begin(self, message: Message) -> None:
        """Find out by its beginning what becomes of an answer."""
        status = message["status"]
        self.status = int(status)
        fields = self._terms.stripped(fields_of(message))
        if status == 304 and self._validates:
            # What is stored says already what it depends on, with what its own fields have said.
            varied = bool(lines_of(fields, b"vary"))
            self._confirm(self._terms.varying(fields) if varied else fields)
        elif status in _FAILURES and self._may_serve_stale():
            self._settle(Outcome.COVERED)
        else:
            self._fields = self._terms.varying(fields)
            await self._pass_on(message)

    # What becomes of it.

    def _settle(self, outcome: Outcome) -> None:
        """Let those go on who wait to know what is stored."""
        self.outcome = outcome
        self._settled.set()
        if outcome is not Outcome.WHOLE:
            self._passing.set()
        self._end_if_useless()

    def _end_if_useless(self) -> None:
        """End the application where it works for a client alone who has gone."""
        if self.outcome.is_for_one and self._client.gone and self._running is not None:
            self._running.cancel()

    async def _pass_on(self, message: Message) -> None:
        """Send its client the beginning of a response, be it stored or not."""
        origin, status = self._origin, message["status"]
        # Trailers would be left out of what is sent again.
        refused = "trailers" if message.get("trailers") else self._refused(status)
        if refused:
            self._settle(Outcome.BROKEN if status in _FAILURES else Outcome.PASSED)
            origin.counts.refuse(refused)
        else:
            self.outcome = Outcome.COMING
        shown = origin.shown(self._fields)
        if origin.edge is not None and not refused:
            # What it stands under is known only when it has ended.
            shown = origin.edge.refused(shown)
        scope = self._fill.scope
        told = origin.told(scope, self.forwarded, stored=not refused, detail=refused)
        self._start = {**message, "headers": [*shown, *told]}
        if refused:
            await self._client.send(self._start)
        elif self._teed:
            self._client.post(self._start)

    def _refused(self, status: int) -> str:
        """Return why a response is not stored, as far as its beginning tells; empty if it is."""
        fields, origin = self._fields, self._origin
        self._verdict = self._terms.verdict(status, fields, origin.control_of(fields))
        if self._verdict.refused:
            return self._verdict.refused
        if self._fill.is_misplaced(fields):
            return "misplaced"
        sizes = lines_of(fields, b"content-length")
        if any(size.isdigit() and int(size[:18]) > origin.max_body for size in sizes):
            return "size"
        try:
            self.remarks.tags.update(self._terms.tags(fields))
            checked_tags(self.remarks.tags)
        except TierCacheError:
            return "tags"
        return "private" if self.remarks.private else ""

    def _may_serve_stale(self, *, gone: bool = False) -> bool:
        """Return whether the stale response may take the place of a failure."""
        stale, origin = self._fill.stale, self._origin
        if stale is None or self._fill.ended:
            return False
        if gone and origin.profile.stale_when_gone and stale.may_replace_silence():
            return True
        return stale.may_replace_error(now=origin.clock.wall())

    def _confirm(self, said: Fields) -> None:
        """Find out which of the responses that were asked about is current, by these fields."""
        stale, tags = self._fill.stale, lines_of(said, b"etag")
        key = self._others.get(tags[0]) if len(tags) == 1 else None
        if key is not None:
            self.said, self.key_named = said, key
            self._settle(Outcome.NAMED)
        elif stale is not None and (tags or not self._others):
            self._renew(stale, said)
        else:
            self._settle(Outcome.UNMATCHED)
        if self._others and self.outcome is Outcome.UNMATCHED:
            # It names none of them: to ask about them would cost a second request each time.
            self._fill.mute()

    def _renew(self, stale: StoredResponse, said: Fields) -> None:
        """Let a response live on that the origin has said is current, by these fields."""
        self._teed = False
        if not is_of(said, stale.fields):
            self._settle(Outcome.UNMATCHED)
            return
        if lines_of(stale.fields, b"date") and not lines_of(said, b"date"):
            # It is of when it came (RFC 9110, 6.6.1).
            said = [*said, (b"date", formatdate(self.asked_at, usegmt=True).encode())]
        origin, edge = self._origin, self._origin.edge
        held = stale.fields if edge is None else edge.plain(stale.fields)
        fields = updated(held, stored_fields(said, ResponseControl()))
        control = origin.control_of(fields)
        if stale.control.targeted and not control.targeted and not origin.heeds(control):
            # What was said to this cache alone is not stored with the others.
            control = stale.control
        verdict = self._terms.verdict(stale.status, fields, control, renewed=True)
        born_at = self._terms.born_at(said, asked_at=self.asked_at)
        self.remarks.tags.update(stale.tags, origin.tags_of(fields, self._fill.scope))
        self.response = stale.validated(
            origin.shown(said),
            verdict.control,
            born_at=born_at,
            fresh_until=born_at + verdict.lifetime,
        )
        self._settle(Outcome.SPENT if verdict.refused else Outcome.RENEWED)

    async def _collect(self, message: Message) -> None:
        """Keep a part of a response that is stored if it comes to its end."""
        # The application may write into what it has sent, which its client may get later.
        kind, body = message["type"], bytes(message.get("body", b""))
        message = {**message, "body": body} if kind == BODY else message
        self._size += len(body)
        if kind != BODY or self._size > self._origin.max_body:
            await self._give_up(message, why="size" if kind == BODY else kind.rpartition(".")[2])
            return
        if message.get("more_body", False):
            self._parts.append(body)
        else:
            self.response = self._whole(b"".join([*self._parts, body]))
            if self.response is None:
                await self._give_up(message, why="length")
                return
            if asyncio.get_running_loop().get_debug():
                self._advise(self.response)
            self._settle(Outcome.WHOLE)
            # Who asks again on seeing the end must find it.
            await self.visible.wait()
            self._passing.set()
        if self._teed:
            self._client.post(message)

    def _whole(self, body: bytes) -> StoredResponse | None:
        """Return the response that is stored, unless something of it is missing."""
        assert self._verdict is not None
        if lines_of(self._fields, b"content-length") not in ([], [b"%d" % len(body)]):
            return None
        if body and self._start["status"] == 204:
            return None  # No client could be sent it: the connection would break.
        status = int(self._start["status"])  # not a subclass of it, as `HTTPStatus` is
        return stored(
            status,
            self._origin.tagged(status, self._origin.shown(self._fields), body),
            body,
            self._verdict.control,
            lifetime=self._verdict.lifetime,
            born_at=self._terms.born_at(self._fields, asked_at=self.asked_at),
        )

    def _advise(self, response: StoredResponse) -> None:
        """Tell a developer of what only the first client has sent, and all others will get."""
        shown, origin = joined(self._terms.shown()), origin_of(self._fill.scope)
        for name in reflected(shown, self._fields, response.body, origin):
            self._origin.advise("http-reflects", advice_on(name))

    async def _give_up(self, *messages: Message, why: str = "") -> None:
        """Store nothing, and pass on what was held back, and then some messages."""
        self._settle(Outcome.PASSED)
        if why:
            self._origin.counts.refuse(why)
        if not self._teed:
            await self._client.send(self._start)
            for body in self._parts:
                await self._client.send({"type": BODY, "body": body, "more_body": True})
        for message in messages:
            await self._client.send(message)
