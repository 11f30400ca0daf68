"""What a function says of itself: parameters and annotations, also while names are undefined."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

if sys.version_info >= (3, 14):
    from annotationlib import Format, get_annotations

    def signature_of(function: Callable[..., Any]) -> inspect.Signature:
        """Return the parameters of a function."""
        return inspect.signature(function, annotation_format=Format.FORWARDREF)

    def annotations_of(function: Callable[..., Any]) -> Mapping[str, Any]:
        """Return the annotations of a function; what is not defined yet is a forward reference."""
        return get_annotations(function, format=Format.FORWARDREF)

else:
    signature_of = inspect.signature

    def annotations_of(function: Callable[..., Any]) -> Mapping[str, Any]:
        """Return the annotations of a function, as they are written if they are texts."""
        found: Mapping[str, Any] = getattr(function, "__annotations__", {})
        return found
