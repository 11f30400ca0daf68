"""How keys stand in what leaves the process: as digests, for they often name people."""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 8
"""Enough to tell the keys of one service apart."""
SHOWN: Final = 10
"""Of an operation on more keys than this, only so many are shown."""


class Keys:
    """Shows keys, or digests of them.

    A digest is the same in every process, so what happened to one key can be followed. It hides
    the key from who reads it, not from who can guess the key and compare.

    Args:
        show: Whether keys are shown as they are.
    """

    __slots__ = ("_show",)

    def __init__(self, *, show: bool) -> None:
        self._show = show

    def shown(self, key: str) -> str:
        """Return what stands for a key."""
        if self._show:
            return key
        return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()

    def shown_of(self, keys: Sequence[str]) -> list[str]:
        """Return what stands for the first `SHOWN` of several keys."""
        return [self.shown(key) for key in keys[:SHOWN]]

    def message_of(self, error: BaseException, keys: Sequence[str]) -> str:
        """Return an error's message, with what stands for the keys it names.

        It is somebody else's object, and may fail to say anything.
        """
        try:
            message = str(error)
        except Exception:  # noqa: BLE001
            message = "<exception str() failed>"  # as in the traceback
        return self.hidden_in(message, keys)

    def hidden_in(self, text: str, keys: Sequence[str]) -> str:
        """Return a text, such as an error's message, with what stands for the keys it names.

        A key that is a mere word or number is replaced only in quotes: it may stand for itself.
        """
        for key in () if self._show else keys:
            shown = self.shown(key)
            # Who has written it may know the key without its tenant, whose name is in front.
            for name in dict.fromkeys((key, key.rpartition("?")[2])):
                if name and name in text:
                    text = text.replace(repr(name), repr(shown))
                    if not name.isalnum():
                        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", shown, text)
        return text
