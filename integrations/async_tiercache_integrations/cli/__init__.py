"""The command `tiercache`: imports without its extra, and says at run time what is missing."""

import sys

from async_tiercache.errors import MissingExtraError, TierCacheError
from async_tiercache_integrations.cli._output import show_what_can_be_shown


def main() -> None:
    """Run the command line; what the entry point of the package calls."""
    show_what_can_be_shown()
    try:
        try:
            from async_tiercache_integrations.cli._app import app
        except ImportError as error:
            raise MissingExtraError(
                f"The command line needs the package {error.name!r}, which is not installed",
                hint='pip install "async-tiercache[cli]"',
            ) from error
        app()
    except MissingExtraError as error:
        print(f"{error.args[0]}: {error.hint}", file=sys.stderr)
        sys.exit(2)
    except TierCacheError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
