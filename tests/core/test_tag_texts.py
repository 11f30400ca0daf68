"""What a value looks like in a tag: whoever has it, as an id or as a text, finds the tag."""

import enum
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from async_tiercache import MISSING, TierCache
from async_tiercache.testing import settled


class Role(enum.IntEnum):
    """A number with a name."""

    OWNER = 7


class State(enum.StrEnum):
    """A text with a name."""

    OPEN = "in progress: 50%"


class Owner(str):
    """A text of a class of its own."""

    __slots__ = ()


@pytest.mark.parametrize(
    "owner",
    [7, Role.OWNER, "a b", Owner("a:b"), State.OPEN, UUID(int=5), date(2024, 1, 2), True, None],
    ids=repr,
)
async def test_a_value_and_its_text_are_one_tag(cache: TierCache, owner: Any) -> None:
    """Who invalidates has often only one of the two: a row has an id, and a request its text."""

    @cache.cached("row:{key}", tags=["owner:{owner}"], exclude=["owner"])
    async def row(key: int, owner: Any) -> Any:
        return key

    @cache.invalidates(tags=["owner:{owner}"])
    async def change(owner: Any) -> None:
        """Change the source."""

    keys = [row.key(1, owner), row.key(2, str(owner))]
    for one in (owner, str(owner)):
        await row(1, owner)
        await row(2, str(owner))
        await settled(cache)
        assert [*await cache.get_many(keys)] == keys

        await change(one)

        assert await cache.get_many(keys) == {}


class Email(str):
    """A text that is the same in whatever case."""

    __slots__ = ()

    def __cache_key__(self) -> str:
        return self.lower()


async def test_a_text_of_a_class_that_says_its_key_stands_by_that_in_a_tag(
    cache: TierCache,
) -> None:
    """It knows what makes two of them equal."""

    @cache.cached("mail:{email}", tags=["mail:{email}"])
    async def mail(email: Email) -> str:
        return str(email)

    @cache.invalidates(tags=["mail:{email}"])
    async def change(email: Email) -> None:
        """Change the source."""

    await mail(Email("Ada"))
    await settled(cache)
    await change(Email("ADA"))

    assert mail.peek(Email("Ada")) is MISSING


async def test_an_id_in_a_tag_can_be_written_by_hand(cache: TierCache) -> None:
    """As an f-string writes it."""
    user_id = UUID("12345678-1234-5678-1234-567812345678")

    @cache.cached("user:{user_id}", tags=["user:{user_id}"])
    async def user(user_id: UUID) -> str:
        return str(user_id)

    await user(user_id)
    await settled(cache)
    await cache.invalidate(tags=[f"user:{user_id}"])

    assert user.peek(user_id) is MISSING


async def test_a_moment_in_a_tag_is_not_its_day(cache: TierCache) -> None:
    """Nor is it found by it: what is no id has the text that it has in a key."""
    moment = datetime(2024, 1, 2, tzinfo=UTC)

    @cache.cached("day:{moment}", tags=["day:{moment}"])
    async def day(moment: datetime) -> str:
        return str(moment)

    await day(moment)
    await settled(cache)
    await cache.invalidate(tags=["day:2024-01-02"])

    assert day.peek(moment) == str(moment)
