"""The adapters' modules: without its package each names its extra; their examples are right."""

import doctest
import importlib
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
sys.modules[{package!r}] = None
from async_tiercache.errors import MissingExtraError
try:
    import async_tiercache_integrations.{module}
except MissingExtraError as error:
    print(error.hint)
"""


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("fastapi", "fastapi"),
        ("litestar", "litestar"),
        ("opentelemetry", "opentelemetry"),
        ("prometheus", "prometheus_client"),
        ("starlette", "starlette"),
    ],
)
def test_a_missing_package_is_an_error_that_names_the_extra(module: str, package: str) -> None:
    """Module, extra and file share one word."""
    program = _PROGRAM.format(module=module, package=package)
    output = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert output == f'pip install "async-tiercache[{module}]"\n'


def test_the_command_line_without_its_package_names_the_smallest_extra() -> None:
    """Whoever trains a dictionary needs no PostgreSQL."""
    program = (
        "import sys; sys.modules['typer'] = None\n"
        "from async_tiercache_integrations.cli import main; main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.endswith('pip install "async-tiercache[cli]"\n')


@pytest.mark.parametrize(
    "module",
    ["django", "fastapi", "litestar", "logging", "opentelemetry", "prometheus", "starlette"],
)
def test_examples_in_docstrings_are_right(module: str) -> None:
    """What an example shows can be done."""
    result = doctest.testmod(importlib.import_module(f"async_tiercache_integrations.{module}"))

    assert result.attempted > 0
    assert result.failed == 0
