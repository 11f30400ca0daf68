"""What a test cannot do without."""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip a test for want of a server; with `TESTS_NEED_SERVERS=1` that is a failure."""
    if os.environ.get("TESTS_NEED_SERVERS") == "1":
        pytest.fail(f"{reason}, and TESTS_NEED_SERVERS=1")
    pytest.skip(reason)
