"""A web service with a database session per request, whose cached loads open their own.

Run it with ``uvicorn session_per_request:app``. DATABASE_URL names the database, TIERCACHE_URL the
Redis; without the latter each process caches for itself.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_tiercache import TierCache

engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///shop.db"))
new_session = async_sessionmaker(engine)
cache = TierCache.from_env(namespace="shop")


class Table(DeclarativeBase):
    """The base of the tables."""


class UserRow(Table):
    """A user as the database has it."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@dataclass(frozen=True)
class Profile:
    """A user as the cache has it: plain data, tied to no session."""

    id: int
    name: str


@asynccontextmanager
async def users_of_a_load() -> "AsyncGenerator[Users]":
    """Open what a load runs on: a repository with a session of its own."""
    async with new_session() as session:
        yield Users(session)


class Users:
    """The users, by a session: a request's, or a load's."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    @cache.cached(
        "user:{user_id}:profile",
        grace="1h",
        soft_timeout=0,
        negative_ttl="10s",
        via=users_of_a_load,
    )
    async def profile(self, user_id: int) -> Profile | None:
        """Return one user's profile, `None` if there is no such user."""
        row = await self.session.get(UserRow, user_id)
        return None if row is None else Profile(row.id, row.name)

    @profile.batch
    async def profiles(self, user_ids: list[int]) -> dict[int, Profile]:
        """Return the profiles of those users that exist."""
        rows = await self.session.scalars(select(UserRow).where(UserRow.id.in_(user_ids)))
        return {row.id: Profile(row.id, row.name) for row in rows}

    @cache.invalidates(keys=["user:{user_id}:profile"])
    async def rename(self, user_id: int, name: str) -> None:
        """Give a user another name."""
        await self.session.execute(update(UserRow).where(UserRow.id == user_id).values(name=name))


async def session_of_request() -> AsyncGenerator[AsyncSession]:
    """Commit when the endpoint has returned, then tell the cache; on an error do neither."""
    async with cache.after_commit(), new_session.begin() as session:
        yield session


# scope="function": the commit comes before the response, not after it.
Session = Annotated[AsyncSession, Depends(session_of_request, scope="function")]


async def users_of_request(session: Session) -> Users:
    """Return the repository for one request."""
    return Users(session)


UsersOfRequest = Annotated[Users, Depends(users_of_request, scope="function")]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Open the cache with the application, and close both with it."""
    async with cache:
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/users/{user_id}")
async def show_user(user_id: int, users: UsersOfRequest) -> Profile:
    """Show a user."""
    profile = await users.profile(user_id)
    if profile is None:
        raise HTTPException(404)
    return profile


@app.get("/users")
async def list_users(ids: str, users: UsersOfRequest) -> list[Profile]:
    """Show those of some users that exist, given as ``?ids=1,2,3``."""
    profiles = await users.profiles([int(user_id) for user_id in ids.split(",")])
    return list(profiles.values())


@app.put("/users/{user_id}/name")
async def rename_user(user_id: int, name: str, users: UsersOfRequest) -> None:
    """Rename a user."""
    await users.rename(user_id, name)
