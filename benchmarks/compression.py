"""How much smaller does compression make values, and what does it cost beside encoding them?

Storing: the floor is encoding the value, the subject compresses what came out. Reading: the floor
is decoding, the subject expands what is then decoded. Behind the name of each case stands how many
times smaller its values got.

The values are drawn from a fixed seed and differ from each other: single rows of a users table
(180 bytes), documents of a catalogue (2 KB), and lists of 275 such rows (50 KB). The
dictionary was trained on 4,000 other rows.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any, Final

from async_tiercache import Compression, Dictionary
from async_tiercache.abc import Codec
from async_tiercache.codecs import codec_for
from async_tiercache.codecs.compression import Compressor
from benchmarks._apart import Group, require
from benchmarks._harness import Case, Effort, Sweep

VALUES: Final = 50
ROWS_IN_A_LIST: Final = 275
TRAINED_ON: Final = 4_000

FIRST: Final = ("Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Ken", "Radia")
LAST: Final = ("Allen", "Dijkstra", "Hopper", "Knuth", "Liskov", "Lovelace", "Perlman", "Turing")
STREETS: Final = ("Station Road", "High Street", "Church Lane", "Mill Road", "Park Avenue")
CITIES: Final = ("London", "Eindhoven", "Zürich", "New York", "Oslo", "Stanford", "Cambridge")
PLANS: Final = ("free", "team", "business")
ROLES: Final = ("reader", "author", "editor", "admin", "billing")
TEXT: Final = (
    "light strong cotton steel for the every day with of and made by hand in small a workshop it "
    "lasts longer than you would think washes at thirty degrees comes in two colours fits most"
)
WORDS: Final = TEXT.split()
SINCE: Final = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class User:
    """A row of a users table, about 180 bytes encoded."""

    user_id: int
    name: str
    email: str
    phone: str
    address: str
    city: str
    created_at: datetime
    seen_at: datetime
    plan: str
    roles: list[str]
    token: str
    score: float
    active: bool


def a_user(number: int) -> User:
    """Return a row."""
    draw = Random(number)
    first, last = draw.choice(FIRST), draw.choice(LAST)
    created = SINCE + timedelta(seconds=draw.randrange(10**8))
    return User(
        user_id=number,
        name=f"{first} {last}",
        email=f"{first}.{last}{draw.randrange(1000)}@example.org".lower(),
        phone=f"+44 20 {draw.randrange(10**8):08}",
        address=f"{draw.randrange(200)} {draw.choice(STREETS)}",
        city=draw.choice(CITIES),
        created_at=created,
        seen_at=created + timedelta(seconds=draw.randrange(10**7)),
        plan=draw.choice(PLANS),
        roles=draw.sample(ROLES, draw.randrange(1, 4)),
        token=draw.randbytes(8).hex(),
        score=draw.random(),
        active=draw.random() < 0.9,
    )


def a_document(number: int) -> dict[str, Any]:
    """Return a document as a catalogue's service has it, names of fields included: about 2 KB."""
    draw = Random(number)
    return {
        "id": number,
        "title": " ".join(draw.choices(WORDS, k=6)),
        "description": " ".join(draw.choices(WORDS, k=160)),
        "price": {"currency": "EUR", "amount": draw.randrange(100, 10_000), "tax_included": True},
        "variants": [
            {
                "sku": f"{number:06}-{size}",
                "size": size,
                "stock": draw.randrange(100),
                "image": f"https://images.example.org/{draw.randbytes(6).hex()}.webp",
            }
            for size in ("xs", "s", "m", "l", "xl")
        ],
        "reviews": [
            {
                "author": draw.choice(FIRST),
                "stars": draw.randrange(1, 6),
                "text": " ".join(draw.choices(WORDS, k=25)),
            }
            for _ in range(4)
        ],
    }


def a_list(number: int) -> list[User]:
    """Return a page of rows: about 50 KB."""
    return [a_user(number * ROWS_IN_A_LIST + each) for each in range(ROWS_IN_A_LIST)]


def over(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Sweep:
    """Return a sweep that calls a function with the arguments that the keys number."""

    async def sweep(keys: Sequence[int]) -> None:
        for key in keys:
            function(arguments[key])

    return sweep


def nothing() -> None:
    """Find nothing wrong: that everything comes back was checked before."""


def cases_of(
    codec: Codec, values: list[Any], compressions: dict[str, Compression], calls: int
) -> list[Case]:
    """Return two cases for each way to compress: storing and reading."""
    keys = [call % len(values) for call in range(calls)]
    payloads = [codec.encode(value) for value in values]
    encode, decode = over(codec.encode, values), over(codec.decode, payloads)
    cases: list[Case] = []
    for name, compression in compressions.items():
        compressor = Compressor(print)
        compressor.learn(compression)
        compress = partial(compressor.compress, compression=compression)
        bodies = [compress(payload) for payload in payloads]
        assert [codec.decode(compressor.expand(body)) for body in bodies] == values
        ratio = sum(map(len, payloads)) / sum(len(body.payload) for body in bodies)
        label = f"{name}, {ratio:.2f} x smaller"
        for what, subject, floor, floor_name in (
            ("store", over(compress, payloads), encode, "encoding the value"),
            ("read", over(compressor.expand, bodies), decode, "decoding it"),
        ):
            cases.append(
                Case(
                    name=f"{what}: {label}",
                    subject=subject,
                    floor=floor,
                    floor_name=floor_name,
                    keys=keys,
                    bars={"cpu": None},
                    check=nothing,
                )
            )
    return cases


def plain() -> dict[str, Compression]:
    """Return each algorithm as a policy names it, for values of every size."""
    require("zstandard")
    require("lz4")
    return {
        "zstd": Compression("zstd", min_bytes=1),
        "lz4": Compression("lz4", min_bytes=1),
        "zlib": Compression("zlib", min_bytes=1),
    }


def trained() -> dict[str, Compression]:
    """Return zstd with a dictionary of users."""
    codec = codec_for(User)
    others = range(10**6, 10**6 + TRAINED_ON)
    dictionary = Dictionary.train([codec.encode(a_user(number)) for number in others])
    return {"zstd with dictionary": Compression(dictionary=dictionary)}


@asynccontextmanager
async def row(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up single rows."""
    values: list[Any] = [a_user(number) for number in range(VALUES)]
    yield cases_of(codec_for(User), values, plain() | trained(), int(20_000 * effort.scale))


@asynccontextmanager
async def document(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up documents."""
    values: list[Any] = [a_document(number) for number in range(VALUES)]
    yield cases_of(codec_for(dict[str, Any]), values, plain(), int(5_000 * effort.scale))


@asynccontextmanager
async def page(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up lists of rows."""
    values: list[Any] = [a_list(number) for number in range(VALUES // 5)]
    yield cases_of(codec_for(list[User]), values, plain() | trained(), int(300 * effort.scale))


GROUPS: Final[dict[str, Group]] = {
    "row of 180 B": row,
    "document of 2 KB": document,
    "list of 50 KB": page,
}
