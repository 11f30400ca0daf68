"""Families for entries that no function has made."""

from typing import Any

from async_tiercache._family import Family
from async_tiercache._options import Limits, Policy
from async_tiercache.codecs.typed import codec_for


def family_of(annotation: Any = Any, **policy_fields: Any) -> Family:
    """Return a family whose values are of a type."""
    return Family("family", Limits.of(Policy(**policy_fields)), codec_for(annotation))
