"""The commands and their options."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from async_tiercache._compression import DICTIONARY_BYTES
from async_tiercache._version import __version__
from async_tiercache.errors import MissingExtraError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A cache in tiers for database-backed async services.",
)


@app.command()
def version() -> None:
    """Print the versions of async-tiercache and of Python."""
    print(f"async-tiercache {__version__}, Python {sys.version.split()[0]}")


@app.command()
def demo(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short phases: the run takes well under a minute.")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(min=1.0, help="Length of each phase (18, with --quick 6).", metavar="N"),
    ] = None,
    users: Annotated[
        int, typer.Option(min=1, help="Users at a time in each of 3 processes.", metavar="N")
    ] = 40,
    report: Annotated[
        Path, typer.Option(dir_okay=False, help="Where the HTML report goes.", metavar="PATH")
    ] = Path("tiercache-demo.html"),
    redis_url: Annotated[
        str | None,
        typer.Option(help="Use this Redis; then it is not killed.", metavar="URL"),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="Use this PostgreSQL, in the schema tiercache_demo, dropped at the end.",
            metavar="URL",
        ),
    ] = None,
    no_live: Annotated[
        bool, typer.Option("--no-live", help="Plain lines instead of the live view.")
    ] = False,
    http: Annotated[
        bool, typer.Option("--http", help="Measure the shop's pages behind ResponseCache, too.")
    ] = False,
) -> None:
    """Show the cache at work on a real database and a real Redis.

    Starts a PostgreSQL and a Valkey of its own and fills a shop with 260,000 rows.

    Three processes use it: without the cache, with it, in a stampede, and while
    Redis is killed and comes back. Nothing is left behind but the report.
    """
    try:
        from async_tiercache_integrations.cli.demo._command import run
        from async_tiercache_integrations.cli.demo._pages import check_packages
        from async_tiercache_integrations.cli.demo._run import Options
    except ImportError as error:
        raise MissingExtraError(
            f"The demo needs the package {error.name!r}, which is not installed",
            hint='pip install "async-tiercache[demo]"',
        ) from error
    if http:
        check_packages()
    options = Options(
        seconds=seconds or (6.0 if quick else 18.0),
        users=users,
        rounds=3 if quick else 5,
        redis_url=redis_url,
        database_url=database_url,
        http=http,
    )
    raise typer.Exit(run(options, report=report, live=not no_live))


@app.command()
def train_dictionary(
    *,
    url: Annotated[str, typer.Option(help="The Redis to read from.", metavar="URL")],
    namespace: Annotated[str, typer.Option(help="The cache's namespace.", metavar="NAME")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", dir_okay=False, help="The file to write.", metavar="FILE"),
    ],
    match: Annotated[
        str,
        typer.Option(
            help='Which keys, as a pattern: "user:*:profile", of a tenant "?NAME?user:*".',
            metavar="PATTERN",
        ),
    ] = "*",
    samples: Annotated[
        int, typer.Option(min=100, help="How many values to read.", metavar="N")
    ] = 10_000,
    size: Annotated[
        int, typer.Option(min=256, help="The most that it may take, in bytes.", metavar="BYTES")
    ] = DICTIONARY_BYTES,
    level: Annotated[int, typer.Option(min=1, max=22, help="To compare at.", metavar="N")] = 3,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            "--known",
            exists=True,
            dir_okay=False,
            help="A dictionary that stored values need; may be repeated.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Train a dictionary that compresses small values of a cache.

    Reads a sample of what Redis holds, and changes nothing there.

    Four of five values are trained on; the others show what is gained.
    """
    from async_tiercache_integrations.cli._dictionary import Options, run

    run(
        Options(
            url=url,
            namespace=namespace,
            match=match,
            samples=samples,
            size=size,
            level=level,
            output=output,
            known=tuple(known or ()),
        )
    )
