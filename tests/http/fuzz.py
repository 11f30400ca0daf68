"""Fuzzes what reads header fields: `python -m tests.http.fuzz -max_total_time=60`.

Atheris is needed, which has wheels for some Pythons on Linux; its options are libFuzzer's.
"""

import importlib
import sys
from typing import Any

atheris: Any = importlib.import_module("atheris")

with atheris.instrument_imports(include=["async_tiercache.http"]):
    from async_tiercache.http.conditions import is_unmodified
    from async_tiercache.http.control import request_control, response_control, targeted_control
    from async_tiercache.http.fields import date_of, joined, seconds_of
    from async_tiercache.http.negotiation import encodings, languages
    from async_tiercache.http.ranges import range_of
    from async_tiercache.http.rules import ORIGIN_SAFE, RFC9111, age_of, lifetime_of, refusal
    from async_tiercache.http.target import groups_of, search_rule
    from async_tiercache.http.vary import vary_of

NOW = 1_800_000_000.0
FORBIDDING = (b"private", b"no-store")


def read(lines: list[bytes]) -> None:
    """Read lines as every field that there is, and hold a response with them to what it forbids."""

    def field(name: bytes) -> list[tuple[bytes, bytes]]:
        return [(name, line) for line in lines]

    request = joined(field(b"if-none-match") + field(b"range") + field(b"if-range"))
    is_unmodified(request, field(b"etag"), now=NOW)
    is_unmodified(joined(field(b"if-modified-since")), field(b"last-modified"), now=NOW)
    range_of(request, field(b"etag"), 100, born_at=NOW)
    request_control(field(b"cache-control"))
    targeted_control(field(b"cdn-cache-control"), [b"cdn-cache-control"])
    groups_of(field(b"cache-groups"), b"cache-groups")
    search_rule(field(b"no-vary-search"))
    vary_of(field(b"vary"))
    for line in lines:
        date_of(line, now=NOW)
        seconds_of(line)
        encodings("br", "gzip")(line)
        languages("en", "de")(line)
    response = [*field(b"cache-control"), *field(b"age"), *field(b"expires"), *field(b"vary")]
    control = response_control(response)
    assert min(age_of(response, profile) for profile in (ORIGIN_SAFE, RFC9111)) >= 0
    for profile in (ORIGIN_SAFE, RFC9111):
        lifetime = lifetime_of(200, response, control, profile=profile, now=NOW)
        assert lifetime is None or lifetime >= 0
        reason = refusal("GET", [], 200, response, control, profile=profile, lifetime=lifetime)
        words = {word.strip(b" \t").lower() for line in lines for word in line.split(b",")}
        if b'"' not in b"".join(lines) and b"must-understand" not in words:
            assert reason is not None or not words.intersection(FORBIDDING), lines


def main() -> None:
    """Fuzz until told to end."""
    atheris.Setup(sys.argv, lambda data: read(data.split(b"\n")))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
