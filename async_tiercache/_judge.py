"""The judge: says what a frame is worth that L2 holds."""

from math import inf
from typing import Final, Literal, NamedTuple

from async_tiercache._ask import NOTHING, UNKNOWN, Ask, Found, States, What
from async_tiercache._entry import Entry, Header
from async_tiercache._events import Cause, Refused
from async_tiercache._ledger import Ledger
from async_tiercache._options import MISSING
from async_tiercache._statistics import Counts
from async_tiercache.abc import NAMESPACE, UNREACHED, Clock, Codec, Content, Observer, Remote
from async_tiercache.codecs.compression import Compressor
from async_tiercache.codecs.frame import Body, FrameError, digest_key, is_block, is_lease, unpack
from async_tiercache.errors import DecodeError
from async_tiercache.tags import judge, pair_of, state_of

# Sound for other servers, so that none of these is replaced.
_ELSEWHERE: Final = frozenset({"format", "compression", "dictionary"})


class Frame(NamedTuple):
    """A sound frame whose tags are still to be judged."""

    ask: Ask
    raw: bytes
    header: Header
    body: Body
    codec: Codec


class Judge:
    """Says what a frame is worth, once the states of its tags are known.

    Args:
        namespace: The cache's namespace.
        remote: Tells the time.
        ledger: Knows what was shown that is newer.
        compressor: Expands contents.
        clock: Times that.
        notify: Is told what is refused.
    """

    def __init__(
        self,
        *,
        namespace: str,
        remote: Remote,
        ledger: Ledger,
        compressor: Compressor,
        clock: Clock,
        notify: Observer,
    ) -> None:
        self._namespace = namespace
        self._remote = remote
        self._ledger = ledger
        self._compressor = compressor
        self._clock = clock
        self._notify = notify

    def recognise(self, ask: Ask, content: Content, states: States) -> Found | Frame:
        if content is UNREACHED:
            return UNKNOWN
        if content is None:
            return NOTHING
        if is_lease(content):
            return Found("lease", content)
        if is_block(content):
            return Found("block", content)
        basis = ask.basis
        try:
            header, body = unpack(content, key_digest=digest_key(self._namespace, basis.key))
        except FrameError as error:
            return self._unusable(ask, content, error)
        for codec in ask.codecs:
            if codec.fingerprint == header.fingerprint:
                return Frame(ask, content, header, body, codec)
        if header.namespace != basis.pairs.get(NAMESPACE):
            return self._refused(ask, content, "dead", "namespace")
        # Another release has left it; what has been invalidated is in nobody's way.
        asked = [(pair, state_of(states[tag])) for tag, pair in header.tags if tag in states]
        if any(judge(pair, state)[0] == "dead" for pair, state in asked):
            return self._refused(ask, content, "dead", "tag")
        return self._refused(ask, content, "schema", "schema")

    def judged(self, frame: Frame, states: States) -> Found:
        """Return the entry of a frame, as its tags let it be, or why there is none."""
        ask, basis, body = frame.ask, frame.ask.basis, frame.body
        if states.unreached and states.leave_open(frame.header):
            return UNKNOWN
        if self._ledger.is_below_floor(basis.key, frame.header.created_at):
            return Found("dead", frame.raw)
        header = self._lived(frame, states)
        if not isinstance(header, Header):
            return self._refused(ask, frame.raw, "dead", header)
        try:
            payload = self._expanded(body, ask.counts)
            value = MISSING if header.absent else frame.codec.decode(payload)
        except FrameError as error:
            return self._unusable(ask, frame.raw, error)
        except DecodeError:
            return self._refused(ask, frame.raw, "damaged", "payload")
        return Found("entry", frame.raw, Entry(value, header, body.plain_bytes, payload))

    def _lived(self, frame: Frame, states: States) -> Header | Literal["tag", "namespace"]:
        """Return a frame's header as the states of its tags let it be, or what has ended it."""
        basis, header = frame.ask.basis, frame.header
        if header.namespace != pair_of(states[NAMESPACE]):
            return "namespace"
        if basis.declared and not {tag for tag, _ in header.tags}.issuperset(basis.declared):
            return "tag"
        softened_until = inf
        for tag, pair in header.tags:
            current = pair_of(states[tag])
            if current is not None:
                # A value that takes this one's place rests on the ids of now.
                basis.pairs.setdefault(tag, current)
            if pair != current:
                verdict, until = judge(pair, state_of(states[tag]))
                if verdict == "dead":
                    return "tag"
                softened_until = min(until, softened_until)
        if softened_until == inf:
            return header
        stale_until = min(header.stale_until, softened_until)
        fresh_until = min(header.fresh_until, self._remote.now(), stale_until)
        return header._replace(fresh_until=fresh_until, stale_until=stale_until)

    def _unusable(self, ask: Ask, raw: bytes, error: FrameError) -> Found:
        what: What = "schema" if error.cause in _ELSEWHERE else "damaged"
        return self._refused(ask, raw, what, error.cause)

    def _refused(self, ask: Ask, raw: bytes, what: What, cause: Cause) -> Found:
        """Return that bytes are of no use, and tell the observers unless somebody only looks."""
        if ask.counts is not None:
            self._notify(Refused(ask.basis.key, cause))
        return Found(what, raw, refused=cause)

    def _expanded(self, body: Body, counts: Counts | None) -> bytes | memoryview:
        if not body.compression:
            return body.payload
        started = self._clock.monotonic()
        payload = self._compressor.expand(body)
        if counts is not None:
            counts.decompress_seconds += self._clock.monotonic() - started
        return payload
