"""docs/concepts/http.md explains every word that is told and counted."""

import re
from pathlib import Path
from typing import get_args

from async_tiercache.http.rules import Refusal
from async_tiercache.http.status import Forwarded

PAGE = (Path(__file__).parents[2] / "docs" / "concepts" / "http.md").read_text("utf-8")


def named_in(row: str) -> set[str]:
    """Return what stands in code in the lines that begin so."""
    lines = [line for line in PAGE.splitlines() if line.startswith(row)]
    return set(re.findall(r"`([a-z-]+)`", " ".join(lines)))


def test_every_reason_to_ask_the_application_is_on_the_page() -> None:
    """And no other one is counted."""
    assert named_in("| `forwarded` |") - {"forwarded"} == set(get_args(Forwarded))


def test_every_reason_to_store_nothing_is_on_the_page() -> None:
    """But that it is no `GET`, which is told as why the application was asked."""
    first, _, table = PAGE.partition("| `detail` |")
    reasons = set(re.findall(r"`([a-z-]+)`", table.partition("\n\n")[0]))

    assert first
    assert set(get_args(Refusal)) - {"method"} <= reasons
    assert {"size", "tags", "trailers", "misplaced", "request"} <= reasons
