"""`tiercache train-dictionary`: a sample of what L2 holds, a dictionary of it, and what it gains.

Reads only: SCAN in batches and MGET.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from async_tiercache import Compression, Dictionary
from async_tiercache._checks import checked_namespace
from async_tiercache._compression import module_of
from async_tiercache._sweeper import checked_pattern, glob_of
from async_tiercache.backends.redis.clients import check_url
from async_tiercache.codecs.compression import Compressor
from async_tiercache.codecs.frame import (
    FrameError,
    digest_key,
    is_lease,
    unpack,
)
from async_tiercache.errors import ConfigurationError, DecodeError, TierError
from async_tiercache_integrations.cli._output import check_writable, write

BATCH: Final = 500
FEWEST: Final = 100
"""Below so many values no dictionary is trained."""
LARGEST: Final = 16 * 1024
"""Larger values hold repetitions of their own, and are not sampled."""
_HELD_OUT: Final = 5  # every so-manyth value is not trained on
_SECONDS: Final = 10.0

TOO_LARGE: Final = f"larger than {LARGEST:,} bytes"
UNREADABLE: Final = "not readable by this release"
UNKNOWN: Final = "compressed with a dictionary that no --known names"

_Redis: Final[Any] = Redis


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command was given; see its help."""

    url: str
    namespace: str
    match: str
    samples: int
    size: int
    level: int
    output: Path
    known: tuple[Path, ...] = ()


@dataclass(slots=True)
class Sample:
    """What was found.

    Attributes:
        payloads: The plain payloads of small values.
        left_out: How many other values there were, by why they are not in the sample.
    """

    payloads: list[bytes] = field(default_factory=list[bytes])
    left_out: Counter[str] = field(default_factory=Counter[str])


class Gain(NamedTuple):
    """What a way to compress makes of the held-out values.

    Attributes:
        stored_bytes: Their size in all.
        compress_us: Microseconds to compress one.
        expand_us: Microseconds to expand one.
    """

    stored_bytes: int
    compress_us: float
    expand_us: float


def run(options: Options) -> None:
    """Train a dictionary, write it and print what it gains.

    Raises:
        ConfigurationError: An option cannot be used, or there are too few values.
        TierError: Redis does not answer.
        UnkeyableError: What the keys are to match is no pattern.
    """
    module_of("zstd")
    _check_server(options.url)
    checked_namespace(options.namespace)
    checked_pattern(options.match)
    check_writable(options.output)
    if options.output.exists():
        raise ConfigurationError(
            f"{options.output} exists",
            hint="Choose another name: what was stored with a dictionary needs it to be read.",
        )
    console, progress = Console(), Progress(console=Console(stderr=True), transient=True)
    with progress:
        sample = asyncio.run(gather(options, progress))
        check_enough(sample, options)
        progress.add_task("Training", total=None)
        held_out = sample.payloads[::_HELD_OUT]
        trained_on = [each for n, each in enumerate(sample.payloads) if n % _HELD_OUT]
        dictionary = Dictionary.train(trained_on, size=options.size)
    write(options.output, dictionary.data)
    report(console, options, sample, held_out, dictionary)


def _check_server(url: str) -> None:
    """Refuse a URL that names no single server, which the sample is read from."""
    check_url(url)
    scheme = url.partition("://")[0]
    if "+" in scheme:
        raise ConfigurationError(
            f"A sample is read from one server, and {scheme}:// names several",
            hint="Name one that holds values, for example any master: redis://host:6379/0.",
        )


async def gather(options: Options, progress: Progress) -> Sample:
    """Return a sample of the values in L2.

    Raises:
        TierError: Redis does not answer.
    """
    known = Compressor(lambda _: None)
    known.learn(Compression(also_read=[Dictionary.load(path) for path in options.known]))
    sample = Sample()
    task = progress.add_task("Sampling", total=options.samples)
    client = _Redis.from_url(options.url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
    try:
        async with (
            contextlib.aclosing(client),
            contextlib.aclosing(frames(client, options, sample)) as found,
        ):
            async for text, raw in found:
                take(sample, options.namespace, text, raw, known)
                progress.update(task, completed=len(sample.payloads))
                if len(sample.payloads) >= options.samples:
                    break
    except (RedisError, OSError) as error:
        raise TierError(
            f"Redis does not answer: {error}",
            tier="l2",
            hint="Is it running, and are its address and password those of --url?",
        ) from error
    return sample


async def frames(
    client: Any, options: Options, sample: Sample
) -> AsyncGenerator[tuple[str, bytes]]:
    """Yield what the matching keys of the namespace hold, with the keys' texts."""
    begin = f"{options.namespace}:{{"
    cursor = None
    while cursor != 0:
        cursor, names = await client.scan(
            cursor or 0, match=f"{begin}{glob_of(options.match)}}}", count=BATCH
        )
        sizes = client.pipeline(transaction=False)
        for name in names:
            sizes.strlen(name)
        small: list[bytes] = []
        for name, size in zip(names, await sizes.execute(raise_on_error=False), strict=True):
            if not isinstance(size, int):  # another type than a string
                sample.left_out[UNREADABLE] += 1
            elif size > LARGEST:
                sample.left_out[TOO_LARGE] += 1
            else:
                small.append(name)
        for name, raw in zip(small, await client.mget(small) if small else (), strict=True):
            if raw is not None:
                yield name.decode(errors="replace")[len(begin) : -1], raw


def take(sample: Sample, namespace: str, text: str, raw: bytes, known: Compressor) -> None:
    """Take the payload of a frame into the sample, or count why not."""
    if is_lease(raw):
        return
    try:
        header, body = unpack(raw, key_digest=digest_key(namespace, text))
        if header.absent:
            return
        if body.plain_bytes > LARGEST:
            sample.left_out[TOO_LARGE] += 1
        else:
            sample.payloads.append(bytes(known.expand(body)))
    except FrameError as error:
        sample.left_out[UNKNOWN if error.cause == "dictionary" else UNREADABLE] += 1
    except DecodeError:
        sample.left_out[UNREADABLE] += 1


def check_enough(sample: Sample, options: Options) -> None:
    """Refuse to train from almost nothing.

    Raises:
        ConfigurationError: There are too few values.
    """
    count = len(sample.payloads)
    if count >= FEWEST:
        return
    why = "".join(f"; {number} are {reason}" for reason, number in sample.left_out.items())
    raise ConfigurationError(
        f"{count} small values match {options.match!r} in the namespace {options.namespace!r}{why}",
        hint=f"At least {FEWEST} are needed, thousands are better: check --namespace and --match, "
        "or wait until the cache has filled. Keys of a tenant begin with ?NAME?.",
    )


def gain(payloads: list[bytes], compression: Compression) -> Gain:
    """Return what a way to compress makes of some values."""
    compressor = Compressor(lambda _: None)
    compressor.learn(compression)
    compressor.expand(compressor.compress(payloads[0], compression))
    started = time.perf_counter()
    bodies = [compressor.compress(payload, compression) for payload in payloads]
    between = time.perf_counter()
    for body in bodies:
        compressor.expand(body)
    ended = time.perf_counter()
    each = 1e6 / len(payloads)
    stored = sum(len(body.payload) for body in bodies)
    return Gain(stored, (between - started) * each, (ended - between) * each)


def report(
    console: Console,
    options: Options,
    sample: Sample,
    held_out: list[bytes],
    dictionary: Dictionary,
) -> None:
    """Print what the dictionary gains, and what to do with it."""
    plain = sum(map(len, held_out))
    table = Table(
        "", "bytes", "times smaller", "µs to compress", "µs to expand",
        title=f"{len(held_out):,} values that were not trained on, "
        f"{plain / len(held_out):.0f} bytes on average, by zstd at level {options.level}",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("as they are", f"{plain:,}", "1.00", "", "")
    ways = {
        "compressed": Compression(level=options.level, min_bytes=1),
        "with the dictionary": Compression(level=options.level, min_bytes=1, dictionary=dictionary),
    }
    for name, compression in ways.items():
        stored, compress_us, expand_us = gain(held_out, compression)
        figures = f"{stored:,}", f"{plain / stored:.2f}", f"{compress_us:.1f}", f"{expand_us:.1f}"
        table.add_row(name, *figures)
    console.print(table)
    for reason, number in sample.left_out.items():
        console.print(f"Left out: {number:,} values, {reason}.")
    console.print(
        f"Wrote {options.output}: {len(dictionary.data):,} bytes, "
        f"id {dictionary.id:08x}. It holds pieces of the sampled values.\n"
        "Next: let every process read it, by Compression(also_read=[Dictionary.load(...)]); "
        "then let them use it, by Compression(dictionary=Dictionary.load(...)).",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
