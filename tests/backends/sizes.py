"""What the sizes of objects depend on."""

from typing import Final

HEAD_BEYOND: Final = object.__basicsize__ - 16
"""By so many bytes the head of each object is larger where there is no global lock."""
