"""Files that a command line names: looked at before anything is measured, not after."""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any


def to_write(text: str) -> Path:
    """Return where something may be written.

    Raises:
        ArgumentTypeError: It cannot be.
    """
    path = Path(text)
    folder = path.absolute().parent
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file in it")
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {folder}; make it first")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path} cannot be written by you; name another file")
    return path


def folder_to_read(text: str) -> Path:
    """Return a folder that has files.

    Raises:
        ArgumentTypeError: There is none, or nothing in it.
    """
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path}")
    if not any(each.is_file() for each in path.iterdir()):
        raise argparse.ArgumentTypeError(f"there is no file in {path}")
    return path


def program(text: str) -> Path:
    """Return a program that can be run.

    Raises:
        ArgumentTypeError: There is none.
    """
    if (found := shutil.which(text)) is None:
        raise argparse.ArgumentTypeError(f"there is no program {text}")
    return Path(found).absolute()


def run_of_suite(text: str) -> dict[str, Any]:
    """Return what `--json` has written for the suite.

    Raises:
        ArgumentTypeError: There is no such thing.
    """
    hint = "name a file that the suite has written: python -m benchmarks --json FILE"
    try:
        report: Any = json.loads(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}; {hint}") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no JSON; {hint}") from error
    if not isinstance(report, dict) or not {"machine", "quick", "benches"} <= report.keys():
        raise argparse.ArgumentTypeError(f"{text} holds no run of the whole suite; {hint}")
    return report


def write(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        SystemExit: It cannot be, for example because the disk is full.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.exit(f"{path} was not written: {error.strerror}")


def write_figures(path: Path, report: dict[str, Any]) -> None:
    """Write what a run has found.

    Raises:
        SystemExit: It cannot be, for example because the disk is full.
    """
    write(path, json.dumps(report, indent=2) + "\n")
