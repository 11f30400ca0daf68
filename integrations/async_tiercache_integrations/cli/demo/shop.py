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
    policy=Policy(ttl="1m", l1_ttl="2s", grace="1m"),
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
    """The last orders of a user."""

    user_id: int
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

    @cache.cached("user:{user_id}:profile")
    async def profile(self, user_id: int) -> Profile | None:
        """Return a user's profile: a point read."""
        row = await self._pool.fetchrow(
            "SELECT user_id, name, email, region, member_since, version"
            " FROM users WHERE user_id = $1",
            user_id,
        )
        return Profile(**row) if row else None

    @cache.invalidates(keys=["user:{user_id}:profile"])
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

    @cache.cached("user:{user_id}:orders")
    async def recent(self, user_id: int) -> OrderHistory:
        """Return a user's last ten orders with the names of the products: a join."""
        rows = await self._pool.fetch(
            "SELECT orders_version, order_id, products.name AS product, quantity,"
            "       quantity * price AS amount, placed_at"
            " FROM users LEFT JOIN orders USING (user_id) LEFT JOIN products USING (product_id)"
            " WHERE user_id = $1 ORDER BY placed_at DESC LIMIT 10",
            user_id,
        )
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
        return OrderHistory(user_id, rows[0]["orders_version"] if rows else 0, lines)

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
