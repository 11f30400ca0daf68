"""The shop's tables and rows, the same in every run."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final, TypeAlias

from async_tiercache_integrations.cli.demo._database import SCHEMA, Connection
from async_tiercache_integrations.cli.demo._workload import Sizes

CATEGORIES: Final = 20
REGIONS: Final = 10

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told (table, rows so far, rows in the end)."""

_TABLES: Final = f"""
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.users (
    user_id integer PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    region integer NOT NULL,
    member_since date NOT NULL,
    version integer NOT NULL DEFAULT 1,
    orders_version integer NOT NULL DEFAULT 1
) WITH (fillfactor = 70);
CREATE TABLE {SCHEMA}.products (
    product_id integer PRIMARY KEY,
    name text NOT NULL,
    category integer NOT NULL,
    price numeric(10, 2) NOT NULL,
    version integer NOT NULL DEFAULT 1
) WITH (fillfactor = 70);
CREATE TABLE {SCHEMA}.orders (
    order_id bigint GENERATED ALWAYS AS IDENTITY,
    user_id integer NOT NULL,
    product_id integer NOT NULL,
    quantity integer NOT NULL,
    placed_at timestamptz NOT NULL
);
"""

_INDEXES: Final = f"""
CREATE INDEX ON {SCHEMA}.orders (user_id, placed_at DESC);
ANALYZE {SCHEMA}.users, {SCHEMA}.products, {SCHEMA}.orders;
"""

_BATCH: Final = 10_000
_FIRST_NAMES: Final = ("Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "John", "Margaret")
_LAST_NAMES: Final = ("Allen", "Backus", "Dijkstra", "Hamilton", "Hopper", "Liskov", "Lovelace")
_THINGS: Final = ("Lamp", "Kettle", "Chair", "Notebook", "Bicycle", "Headphones", "Rucksack")


async def create(admin: Connection, sizes: Sizes, progress: Progress) -> None:
    """Make the schema and fill it with COPY."""
    await drop(admin)
    await admin.execute(_TABLES)
    chance = random.Random(42)
    await _copy(admin, "users", ("user_id", "name", "email", "region", "member_since"),
                _users(sizes, chance), sizes.users, progress=progress)  # fmt: skip
    await _copy(admin, "products", ("product_id", "name", "category", "price"),
                _products(sizes, chance), sizes.products, progress=progress)  # fmt: skip
    await _copy(admin, "orders", ("user_id", "product_id", "quantity", "placed_at"),
                _orders(sizes, chance), sizes.orders, progress=progress)  # fmt: skip
    await admin.execute(_INDEXES)


async def drop(admin: Connection) -> None:
    """Remove all that `create` made."""
    await admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


async def _copy(
    admin: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterator[tuple[Any, ...]],
    total: int,
    *,
    progress: Progress,
) -> None:
    done = 0
    progress(table, done, total)
    while batch := list(islice(rows, _BATCH)):
        await admin.copy_records_to_table(table, records=batch, columns=columns, schema_name=SCHEMA)
        done += len(batch)
        progress(table, done, total)


def _users(sizes: Sizes, chance: random.Random) -> Iterator[tuple[Any, ...]]:
    opened = date(2015, 1, 1)
    for user_id in range(1, sizes.users + 1):
        name = f"{chance.choice(_FIRST_NAMES)} {chance.choice(_LAST_NAMES)}"
        since = opened + timedelta(days=chance.randrange(3_650))
        yield user_id, name, f"user{user_id}@example.com", user_id % REGIONS + 1, since


def _products(sizes: Sizes, chance: random.Random) -> Iterator[tuple[Any, ...]]:
    for product_id in range(1, sizes.products + 1):
        name = f"{chance.choice(_THINGS)} {product_id}"
        price = Decimal(chance.randrange(199, 49_999)) / 100
        yield product_id, name, product_id % CATEGORIES + 1, price


def _orders(sizes: Sizes, chance: random.Random) -> Iterator[tuple[Any, ...]]:
    first = datetime(2025, 1, 1, tzinfo=UTC)
    draw = chance.random
    for number in range(sizes.orders):
        placed_at = first + timedelta(minutes=number * 525_600 // sizes.orders)
        user_id = int(draw() * sizes.users) + 1
        yield user_id, int(draw() * sizes.products) + 1, int(draw() * 3) + 1, placed_at
