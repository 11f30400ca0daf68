"""The application: three repositories over asyncpg, cached by decorators. Ordinary user code."""

import os
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from async_tiercache import L1, Policy, TierCache
from async_tiercache_integrations.cli.demo._answers import note
from async_tiercache_integrations.cli.demo._database import Pool

CACHED = os.environ.get("SHOP_CACHE") != "off"

cache = TierCache(
    os.environ.get("SHOP_REDIS_URL"),
    namespace=os.environ.get("SHOP_NAMESPACE", "shop"),
    l1=L1(max_entries=10_000, max_bytes="64MiB"),
    policy=Policy(ttl="1m", l1_ttl="30s", grace="1m"),
    # What is invalidated in one process ends in the memory of the others within milliseconds, and
    # within this time also when Redis dies.
    staleness_bound="2s",
    observers=[note],
    enabled=CACHED,
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A user as other users see them."""

    user_id: int
    name: str
    email: str
    region: int
    member_since: date
    version: int


@dataclass(frozen=True, slots=True)
class Product:
    """An article of the shop."""

    product_id: int
    name: str
    category: int
    price: Decimal
    version: int


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One order of a user."""

    order_id: int
    product: str
    quantity: int
    amount: Decimal
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class OrderHistory:
    """The last orders of a user, under the user's name."""

    user_id: int
    customer: str
    user_version: int
    version: int
    lines: list[OrderLine]


@dataclass(frozen=True, slots=True)
class MonthOfSales:
    """What was sold in a month."""

    month: date
    orders: int
    revenue: Decimal


class Users:
    """The users."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @cache.cached("user:{user_id}:profile", tags=["user:{user_id}"])
    async def profile(self, user_id: int) -> Profile | None:
        """Return a user's profile: a point read."""
        row = await self._pool.fetchrow(
            "SELECT user_id, name, email, region, member_since, version"
            " FROM users WHERE user_id = $1",
            user_id,
        )
        return Profile(**row) if row else None

    # The name stands in more than one cached value: all of them have the user's tag.
    @cache.invalidates(tags=["user:{user_id}"])
    async def rename(self, user_id: int, name: str) -> int:
        """Change a user's name; return the profile's new version."""
        version: int = await self._pool.fetchval(
            "UPDATE users SET name = $2, version = version + 1"
            " WHERE user_id = $1 RETURNING version",
            user_id,
            name,
        )
        return version


class Products:
    """The articles and what is sold of them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @cache.cached("product:{product_id}")
    async def product(self, product_id: int) -> Product | None:
        """Return an article: a point read."""
        row = await self._pool.fetchrow(
            "SELECT product_id, name, category, price, version FROM products WHERE product_id = $1",
            product_id,
        )
        return Product(**row) if row else None

    @cache.invalidates(keys=["product:{product_id}"])
    async def reprice(self, product_id: int, price: Decimal) -> int:
        """Change an article's price; return its new version."""
        version: int = await self._pool.fetchval(
            "UPDATE products SET price = $2, version = version + 1"
            " WHERE product_id = $1 RETURNING version",
            product_id,
            price,
        )
        return version

    # An order does not invalidate it: a report may be a minute old, and its ttl says so.
    @cache.cached("sales:{category}:{region}", ttl="1m")
    async def sales(self, category: int, region: int) -> list[MonthOfSales]:
        """Return the sales of a category in a region by month: an aggregate over all orders."""
        rows = await self._pool.fetch(
            "SELECT date_trunc('month', placed_at)::date AS month,"
            "       count(*) AS orders, sum(quantity * price) AS revenue"
            " FROM orders JOIN products USING (product_id) JOIN users USING (user_id)"
            " WHERE category = $1 AND region = $2"
            " GROUP BY 1 ORDER BY 1",
            category,
            region,
        )
        return [MonthOfSales(**row) for row in rows]


class Orders:
    """The orders."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @cache.cached("user:{user_id}:orders", tags=["user:{user_id}"])
    async def recent(self, user_id: int) -> OrderHistory | None:
        """Return a user's last ten orders with the names of the products: a join."""
        rows = await self._pool.fetch(
            "SELECT users.name AS customer, users.version AS user_version, orders_version,"
            "       order_id, products.name AS product, quantity,"
            "       quantity * price AS amount, placed_at"
            " FROM users LEFT JOIN orders USING (user_id) LEFT JOIN products USING (product_id)"
            " WHERE user_id = $1 ORDER BY placed_at DESC LIMIT 10",
            user_id,
        )
        if not rows:
            return None
        lines = [
            OrderLine(
                order_id=row["order_id"],
                product=row["product"],
                quantity=row["quantity"],
                amount=row["amount"],
                placed_at=row["placed_at"],
            )
            for row in rows
            if row["order_id"] is not None
        ]
        user = rows[0]
        return OrderHistory(
            user_id, user["customer"], user["user_version"], user["orders_version"], lines
        )

    # A new order changes one cached value: its key is enough.
    @cache.invalidates(keys=["user:{user_id}:orders"])
    async def place(self, user_id: int, product_id: int, quantity: int) -> int:
        """Add an order; return the new version of the user's history."""
        version: int = await self._pool.fetchval(
            "WITH placed AS (INSERT INTO orders (user_id, product_id, quantity, placed_at)"
            "                VALUES ($1, $2, $3, now()))"
            " UPDATE users SET orders_version = orders_version + 1"
            " WHERE user_id = $1 RETURNING orders_version",
            user_id,
            product_id,
            quantity,
        )
        return version
