"""What a client prefers of what there is to choose from (RFC 9110, 12.5).

Clients spell the same wish in a thousand ways. A response that depends on `Accept-Encoding` or
`Accept-Language` has as many variants as there are spellings, unless each is replaced by the one
choice that it leads to.
"""

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from async_tiercache.http.fields import TOKEN, Fields, elements_of, lines_of

Normaliser: TypeAlias = Callable[[bytes], bytes | None]
"""Returns the value that takes the place of a field's; `None` if the field is left out."""

_SAYS: Final = {
    b"accept": b"content-type",
    b"accept-encoding": b"content-encoding",
    b"accept-language": b"content-language",
}
"""Of what requests choose, what a response says that it is."""
_MEDIA: Final = re.compile(TOKEN.pattern + b"/" + TOKEN.pattern)
_WEIGHT: Final = re.compile(rb"q=([01](?:\.\d{0,3})?)", re.IGNORECASE)


def encodings(*offered: str) -> Normaliser:
    """Return what reduces `Accept-Encoding` to the first of some codings that a client takes.

    Args:
        offered: The codings that the application can produce, the best one first.

    Example:
        >>> choose = encodings("br", "gzip")
        >>> choose(b"gzip, deflate, br;q=0.5"), choose(b"gzip;q=0.3"), choose(b"identity")
        (b'br', b'gzip', None)
    """
    names = [each.lower().encode("ascii") for each in offered]

    def chosen(value: bytes) -> bytes | None:
        weights = _weights(value)
        anything = weights.get(b"*", 0.0)
        return next((name for name in names if weights.get(name, anything)), None)

    return chosen


def languages(*offered: str) -> Normaliser:
    """Return what reduces `Accept-Language` to the language of some that a client likes best.

    ``en`` answers those who ask for ``en-GB`` (RFC 4647, 3.4). Who likes none of them is taken for
    one who has not asked.

    Args:
        offered: The languages that the application speaks; of equally liked ones, the first.

    Example:
        >>> choose = languages("en", "de")
        >>> choose(b"de-AT, en;q=0.8"), choose(b"fr"), choose(b"*")
        (b'de', None, b'en')
    """
    names = [(each.lower().encode("ascii"), each.encode("ascii")) for each in offered]

    def chosen(value: bytes) -> bytes | None:
        weights = _weights(value)
        best, liked = None, 0.0
        for lowered, name in names:
            asked = [w for each, w in weights.items() if (each + b"-").startswith(lowered + b"-")]
            weight = max(asked, default=weights.get(b"*", 0.0))
            if weight > liked:
                best, liked = name, weight
        return best

    return chosen


def _weights(value: bytes, form: re.Pattern[bytes] = TOKEN) -> dict[bytes, float]:
    """Return how much each element is liked, from 0 to 1; one that is malformed is left out."""
    weights: dict[bytes, float] = {}
    for element in elements_of([value]):
        name, *parameters = (part.strip(b" \t") for part in element.split(b";"))
        found = [_WEIGHT.fullmatch(each) for each in parameters]
        if form.fullmatch(name) and all(found) and len(found) < 2:
            weights[name.lower()] = min(1.0, float(found[0][1])) if found and found[0] else 1.0
    return weights


def described_by(response: Fields, name: bytes) -> bytes | None:
    """Return what a response is, of what a field of requests chooses; `None` if it says nothing.

    Example:
        >>> described_by([(b"content-type", b"text/html; charset=utf-8")], b"accept")
        b'text/html'
    """
    said = _SAYS.get(name)
    lines = [] if said is None else lines_of(response, said)
    return b", ".join(lines).partition(b";")[0].strip(b" \t").lower() if lines else None


def asks_for(name: bytes, value: bytes | None, described: bytes | None) -> bool:
    """Return whether a request chooses by its own words what another one has got.

    A wildcard names nothing: who takes anything may be given something else.

    Args:
        name: The field that chooses.
        value: What the request has there.
        described: What the other one's response says that it is.

    Example:
        >>> asks_for(b"accept-encoding", b"br, gzip", b"gzip")
        True
        >>> asks_for(b"accept", b"*/*", b"text/html")
        False
        >>> asks_for(b"accept-language", b"de-AT", b"de")
        True
    """
    if name not in _SAYS or value is None:
        return False
    if described is None:
        # Few say their language, and all say their type and coding.
        return name == b"accept-language"
    if name == b"accept-language":
        liked = [each for each, weight in _weights(value).items() if weight]
        return any((each + b"-").startswith(described + b"-") for each in liked)
    return _weights(value, _MEDIA if name == b"accept" else TOKEN).get(described, 0.0) > 0
