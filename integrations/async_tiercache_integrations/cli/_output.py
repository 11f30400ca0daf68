"""What the commands write: words to a terminal or pipe, and files that took minutes to make."""

import io
import os
import sys
from pathlib import Path

from async_tiercache.errors import ConfigurationError


def show_what_can_be_shown() -> None:
    """Let standard streams replace characters that their encoding has not, where they raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before there is something to write.

    Raises:
        ConfigurationError: It cannot be.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigurationError(
            f"There is no folder {path.parent}", hint="Make it, or choose another one."
        )
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigurationError(
            f"{path} cannot be written by this user", hint="Choose another place."
        )


def write(path: Path, data: bytes) -> None:
    """Write a file, or leave none.

    Raises:
        ConfigurationError: There was no room, for example.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        if path.is_file():
            path.unlink()
        raise ConfigurationError(
            f"{path} was not written: {error.strerror}", hint="Make room, or choose another place."
        ) from error
