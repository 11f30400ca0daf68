"""An application that answers ranges, as file servers do."""

from typing import Any

from tests.asgi.client import Origin, Pairs

FRESH = ("cache-control", "max-age=60")
PART = ("range", "bytes=0-4")
OTHER = ("range", "bytes=5-9")


class Parted(Origin):
    """An application that answers a range with what it names, of whatever content there is.

    Attributes:
        content: The whole.
        asked: Range and condition of each read, in order.
        change: The fields of what answers a `POST`.
    """

    def __init__(self, *fields: tuple[str, str]) -> None:
        super().__init__(*(fields or (FRESH,)))
        self.content = b"0123456789"
        self.asked: list[tuple[str | None, str | None]] = []
        self.change: Pairs = []
        self.follow = self.answer

    def answer(self, scope: Any) -> Pairs:
        """Return the fields of a response, and set its status and content."""
        said = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["method"] == "POST":
            self.status, self.parts = 204, [b""]
            return self.change
        asked, condition = said.get("range"), said.get("if-none-match")
        self.asked.append((asked, condition))
        self.status, self.parts = 200, [self.content]
        if condition is not None and dict(self.fields).get("etag") in condition.split(", "):
            self.status, self.parts = 304, [b""]
        elif asked is not None:
            first, last = (int(each) for each in asked.removeprefix("bytes=").split("-"))
            self.status, self.parts = 206, [b"part ", self.content[first : last + 1]]
            return [*self.fields, ("content-range", f"bytes {first}-{last}/{len(self.content)}")]
        return self.fields
