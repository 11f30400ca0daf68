"""Names: what a namespace's strings and channels are called in Redis.

The braces are a hash tag: all names of one key or tag are in one slot of a Cluster. Keys and tags
hold no braces, and begin with no asterisk: such names are the namespace's own.
"""

import re
from collections.abc import Iterable
from typing import Final

_RESERVED: Final = "*"
_GLOB: Final = re.compile(r"([*?\[\]\\^])")


class Names:
    """The names of one namespace.

    Args:
        namespace: The first part of each.

    Attributes:
        bus: The channel of invalidations.
        last: Holds the id of the last message, on one server.
        secret: Holds what all processes of the namespace share.

    Example:
        >>> Names("shop").mark("user:42")
        'shop:{user:42}:r'
    """

    __slots__ = ("_of_tags", "_prefix", "bus", "last", "secret")

    def __init__(self, namespace: str) -> None:
        self._prefix = f"{namespace}:{{"
        self._of_tags: tuple[tuple[str, ...], list[str]] = (), []
        self.bus = f"{namespace}:bus"
        self.last = f"{self._prefix}{_RESERVED}}}:last"
        self.secret = f"{self._prefix}{_RESERVED}}}:secret"

    def key(self, key: str) -> str:
        """Return where the entry, lease or block of a key is."""
        return f"{self._prefix}{key}}}"

    def all_of(self, keys: Iterable[str], tags: Iterable[str]) -> list[str]:
        """Return where keys and the states of tags are."""
        prefix = self._prefix
        last, of_tags = self._of_tags
        if tags != last:
            # Nearly all who ask ask about the same, which nobody can change.
            tags = tuple(tags)
            of_tags = [f"{prefix}{tag}}}:t" for tag in tags]
            self._of_tags = tags, of_tags
        names = [f"{prefix}{key}}}" for key in keys]
        names += of_tags
        return names

    def mark(self, key: str) -> str:
        """Return where the mark of who refreshes a key is."""
        return f"{self._prefix}{key}}}:r"

    def waiters(self, key: str) -> str:
        """Return where it stands that a key is waited for; the channel that wakes them, too."""
        return f"{self._prefix}{key}}}:w"

    def tag(self, tag: str) -> str:
        """Return where the state of a tag is."""
        return f"{self._prefix}{tag}}}:t"

    def proof(self, number: int) -> str:
        """Return one of many names that no key has."""
        return self.key(f"{_RESERVED}{number}")

    def pattern(self, glob: str) -> str:
        """Return the glob over names that a glob over keys is."""
        return f"{_GLOB.sub(_escaped, self._prefix)}{glob}}}"

    def keys_of(self, names: Iterable[bytes]) -> list[str]:
        """Return the keys that names which match a `pattern` are of."""
        start = len(self._prefix.encode())
        texts = (name[start:-1].decode(errors="replace") for name in names)
        return [text for text in texts if not text.startswith(_RESERVED)]


def _escaped(found: "re.Match[str]") -> str:
    return f"\\{found[0]}"
