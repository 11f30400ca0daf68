"""Check what a wheel and an sdist hold: all of the package, and nothing of where it was built."""

# ruff: noqa: INP001, T201 - a script

import argparse
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Final

PACKAGES: Final = ("async_tiercache", "async_tiercache_integrations")
SOURCE: Final = ("async_tiercache", "integrations", "tests", "benchmarks", "docs")
SOURCE_FILES: Final = ("CHANGELOG.md", "LICENSE", "README.md", "PKG-INFO", "pyproject.toml")


def wheel_problems(files: dict[str, bytes]) -> Iterator[str]:
    """Yield what is wrong with a wheel's files."""
    for name in files:
        top = name.split("/")[0]
        if top not in PACKAGES and not top.endswith(".dist-info"):
            yield f"{name} would land beside our packages"
    for root in (Path(), Path("integrations")):
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*")):
                name = path.relative_to(root).as_posix()
                if path.is_file() and path.suffix != ".pyc" and name not in files:
                    yield f"{name} is missing"
    if not any(name.endswith(".dist-info/entry_points.txt") for name in files):
        yield "the command tiercache is missing"
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in files):
        yield "there is no licence"
    metadata = next(text for name, text in files.items() if name.endswith(".dist-info/METADATA"))
    yield from _metadata_problems(metadata)


def _metadata_problems(metadata: bytes) -> Iterator[str]:
    fields = message_from_bytes(metadata)
    for name in ("Name", "Version", "Summary", "License-Expression", "Requires-Python"):
        if not fields[name]:
            yield f"the metadata have no {name}"
    for requirement in fields.get_all("Requires-Dist", []):
        if "@" in requirement:
            yield f"{requirement} names an address"


def sdist_problems(files: dict[str, bytes]) -> Iterator[str]:
    """Yield what is wrong with an sdist's files."""
    inside = {name.partition("/")[2] for name in files}
    for name in SOURCE_FILES:
        if name not in inside:
            yield f"there is no {name}"
    for folder in SOURCE:
        if not any(name.startswith(f"{folder}/") for name in inside):
            yield f"{folder} is missing"
    for name in sorted(inside):
        if name.split("/")[0] not in (*SOURCE, *SOURCE_FILES, ".gitignore"):
            yield f"{name} does not belong there"


def common_problems(files: dict[str, bytes], places: list[str]) -> Iterator[str]:
    """Yield what is wrong with the files of either."""
    for name, content in files.items():
        if "__pycache__" in name or name.endswith((".pyc", ".html")):
            yield f"{name} was made by a run"
        for place in places:
            if place.encode() in content:
                yield f"{name} names {place}"


def wheel_files(path: Path) -> dict[str, bytes]:
    """Return a wheel's files by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sdist_files(path: Path) -> dict[str, bytes]:
    """Return an sdist's files by name."""
    with tarfile.open(path) as archive:
        return {
            member.name: opened.read()
            for member in archive
            if (opened := archive.extractfile(member)) is not None
        }


def main() -> int:
    """Print the problems; 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="holds one wheel and one sdist")
    parser.add_argument("--not-naming", nargs="+", default=[], metavar="PATH")
    options = parser.parse_args()
    (wheel,), (sdist,) = options.folder.glob("*.whl"), options.folder.glob("*.tar.gz")
    places = [place for place in options.not_naming if len(place) > 1]
    problems: list[str] = []
    for path, files, of_kind in (
        (wheel, wheel_files(wheel), wheel_problems),
        (sdist, sdist_files(sdist), sdist_problems),
    ):
        found = [*of_kind(files), *common_problems(files, places)]
        problems += [f"{path.name}: {problem}" for problem in found]
        print(f"{path.name}: {len(files)} files, {len(found)} problems")
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
