"""The shop's pages: cached repositories behind FastAPI behind a cache of responses. User code."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2s
from typing import Annotated, Final, TypeAlias

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, Response
from pydantic import TypeAdapter

from async_tiercache_integrations.asgi import ResponseCache, http_tags
from async_tiercache_integrations.cli.demo._database import Pool
from async_tiercache_integrations.cli.demo.shop import MonthOfSales, Product, Products, cache

Application: TypeAlias = Callable[..., Awaitable[None]]

CACHED: Final = os.environ.get("SHOP_RESPONSES") != "off"


@dataclass(frozen=True, slots=True)
class Range:
    """What there is in a category."""

    articles: int
    cheapest: Decimal
    dearest: Decimal


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown of an article."""

    article: Product
    similar: list[str]
    among: Range


@dataclass(frozen=True, slots=True)
class Report:
    """What was sold of a category in a region."""

    category: int
    region: int
    months: list[MonthOfSales]


class Catalogue:
    """The articles as pages show them; all that shows one stands under the article's tag."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @cache.cached("article:{product_id}", tags=["product:{product_id}"])
    async def article(self, product_id: int) -> Product | None:
        """Return an article: a point read."""
        row = await self._pool.fetchrow(
            "SELECT product_id, name, category, price, version FROM products WHERE product_id = $1",
            product_id,
        )
        return Product(**row) if row else None

    @cache.cached("similar:{product_id}", tags=["product:{product_id}"])
    async def similar(self, product_id: int) -> list[str]:
        """Return the names of other articles of its category: a short range."""
        rows = await self._pool.fetch(
            "SELECT other.name FROM products JOIN products AS other USING (category)"
            " WHERE products.product_id = $1 AND other.product_id <> $1"
            " AND other.product_id BETWEEN $1 - 100 AND $1 + 100 ORDER BY other.product_id LIMIT 6",
            product_id,
        )
        return [row["name"] for row in rows]

    # A price does not invalidate it: it may be a minute old, as its ttl says.
    @cache.cached("range:{category}", ttl="1m")
    async def among(self, category: int) -> Range:
        """Return what there is in a category: an aggregate over the articles."""
        row = await self._pool.fetchrow(
            "SELECT count(*) AS articles, min(price) AS cheapest, max(price) AS dearest"
            " FROM products WHERE category = $1",
            category,
        )
        assert row is not None
        return Range(**row)

    # The values above and the page that was made of them end together, on all servers.
    @cache.invalidates(tags=["product:{product_id}"])
    async def reprice(self, product_id: int, price: Decimal) -> int:
        """Change an article's price; return its new version."""
        version: int = await self._pool.fetchval(
            "UPDATE products SET price = $2, version = version + 1"
            " WHERE product_id = $1 RETURNING version",
            product_id,
            price,
        )
        return version


async def _pool(request: Request) -> Pool:
    pool: Pool = request.app.state.pool
    return pool


FromPool = Annotated[Pool, Depends(_pool)]

router = APIRouter()
_PAGE: Final = TypeAdapter(Page)
_REPORT: Final = TypeAdapter(Report)


@router.get("/products/{product_id}")
async def page(product_id: int, pool: FromPool) -> Response:
    """Show an article, others like it, and what there is in its category."""
    # Its cached parts bring their tags along; this would hold if they were not cached, too.
    http_tags(f"product:{product_id}")
    catalogue = Catalogue(pool)
    article = await catalogue.article(product_id)
    if article is None:
        raise HTTPException(404)
    similar = await catalogue.similar(product_id)
    among = await catalogue.among(article.category)
    return _shared(_PAGE.dump_json(Page(article, similar, among)), version=article.version)


@router.get("/reports/{category}/{region}")
async def report(category: int, region: int, pool: FromPool) -> Response:
    """Show what was sold of a category in a region by month."""
    months = await Products(pool).sales(category, region)
    return _shared(_REPORT.dump_json(Report(category, region, months)))


@router.post("/products/{product_id}/price")
async def change_price(
    product_id: int, pool: FromPool, price: Annotated[Decimal, Body(embed=True)]
) -> dict[str, int]:
    """Change an article's price; who has the answer finds no older page on this server."""
    return {"version": await Catalogue(pool).reprice(product_id, price)}


def _shared(content: bytes, version: int = 1) -> Response:
    """Return a response that a shared cache may keep for a minute."""
    etag = f'"{version}.{blake2s(content, digest_size=8).hexdigest()}"'
    headers = {"Cache-Control": "public, max-age=60", "ETag": etag}
    return Response(content, media_type="application/json", headers=headers)


def pages(pool: Pool) -> FastAPI:
    """Return the application, without a cache of responses."""
    application = FastAPI(openapi_url=None)
    application.state.pool = pool
    application.include_router(router)
    return application


def behind_cache(application: Application) -> Application:
    """Put the cache of the repositories in front, too: tags end both."""
    return ResponseCache(application, cache=cache) if CACHED else application
