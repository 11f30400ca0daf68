"""`tiercache train-dictionary` on a real server: what it reads, writes and says."""

import asyncio
import random
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

pytest.importorskip("typer", reason="needs the extra cli")

from async_tiercache import Compression, Dictionary, TierCache
from async_tiercache.codecs import codec_for
from async_tiercache.codecs.compression import Compressor
from async_tiercache_integrations.cli import main
from tests.servers.conftest import ONE_SERVER
from tests.servers.process import Server

pytestmark = [pytest.mark.redis, ONE_SERVER]

NAMESPACE = "trained"


class Train(Protocol):
    """Runs the command and returns its exit code."""

    def __call__(self, *options: str, url: str | None = None) -> int: ...


@pytest.fixture
def train(redis: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Return the command as the shell runs it, with the options that it always needs."""

    def run(*options: str, url: str | None = None) -> int:
        words = ["--url", url or redis.url, "--namespace", NAMESPACE, *options]
        if "-o" not in options:
            words += ["-o", str(tmp_path / "rows.dict")]
        monkeypatch.setattr(sys, "argv", ["tiercache", "train-dictionary", *words])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


def a_row(number: int) -> dict[str, Any]:
    draw = random.Random(number)
    return {
        "id": number,
        "email": f"{draw.randbytes(4).hex()}@example.org",
        "city": draw.choice(["London", "Eindhoven", "Oslo"]),
        "plan": draw.choice(["monthly, paid by card", "yearly, paid by invoice"]),
        "roles": draw.sample(["reader", "author", "editor", "admin"], 2),
    }


def fill(redis: Server, count: int, **options: Any) -> None:
    """Store rows as a service does, and other things beside them."""

    async def store() -> None:
        async with TierCache(redis.url, namespace=NAMESPACE, l1=None) as cache:
            rows = {f"row:{number}": a_row(number) for number in range(count)}
            for key, value in (*rows.items(), ("page:1", "x" * 20_000)):
                # On a busy machine the server may not answer in time.
                while (await cache.set(key, value, **options)).l2 != "done":
                    pass

    asyncio.run(store())
    redis.command("SET", "other:{row:1}", "somebody else's")
    redis.command("SET", f"{NAMESPACE}:{{row:broken}}", "no frame")
    redis.command("RPUSH", f"{NAMESPACE}:{{row:list}}", "no string")
    redis.command("SET", f"{NAMESPACE}:{{row:0}}:r", "a mark")


def test_a_dictionary_is_trained_from_what_the_server_holds(
    redis: Server, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It makes rows it was not trained on smaller, and nothing on the server changes."""
    fill(redis, 600)
    before = {name: redis.command("TYPE", name) for name in redis.names()}

    assert train("--match", "row:*", "--size", "2048") == 0

    shown = capsys.readouterr().out
    assert "with the dictionary" in shown
    assert "120 values that were not trained on" in shown
    assert "2 values, not readable" in shown
    assert "also_read" in shown
    dictionary = Dictionary.load(tmp_path / "rows.dict")
    assert len(dictionary.data) <= 2_048
    row = codec_for(Any).encode(a_row(10_000))
    body = Compressor(print).compress(row, Compression(dictionary=dictionary))
    assert len(body.payload) * 1.5 < len(row)
    assert {name: redis.command("TYPE", name) for name in redis.names()} == before


def test_large_values_are_left_out(
    redis: Server, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """They hold repetitions of their own and need no dictionary."""
    fill(redis, 200)

    assert train("--samples", "1000") == 0

    assert "1 values, larger than 16,384 bytes" in capsys.readouterr().out


def test_a_sample_ends_where_it_was_told(
    redis: Server, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """A large server is not read to its end."""
    fill(redis, 600)

    assert train("--match", "row:*", "--samples", "150", "--size", "512") == 0

    assert "30 values that were not trained on" in capsys.readouterr().out


def test_values_compressed_by_an_older_dictionary_need_it(
    redis: Server, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever trains anew names the old one."""
    codec = codec_for(Any)
    older = Dictionary.train([codec.encode(a_row(n)) for n in range(1_000)], size=1_024)
    path = tmp_path / "older.dict"
    path.write_bytes(older.data)
    fill(redis, 200, compression=Compression(dictionary=older, min_bytes=1))

    assert train() == 2
    assert "200 are compressed with a dictionary that no --known names" in capsys.readouterr().err
    assert train("--known", str(path)) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--match", "nothing:*"], "0 small values match 'nothing:*'"),
        (["--namespace", "empty"], "0 small values match '*' in the namespace 'empty'"),
    ],
    ids=["pattern", "namespace"],
)
def test_too_few_values_are_refused(
    redis: Server,
    train: Train,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    """With what to check; no file is left."""
    fill(redis, 20)

    assert train(*options) == 2

    shown = capsys.readouterr().err
    assert said in shown
    assert "--namespace and --match" in shown
    assert not (tmp_path / "rows.dict").exists()


def test_an_existing_file_is_not_overwritten(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was stored with a dictionary is lost without it."""
    path = tmp_path / "rows.dict"
    path.write_bytes(b"precious")

    assert train() == 2

    assert "exists" in capsys.readouterr().err
    assert path.read_bytes() == b"precious"


def test_a_server_that_is_down_is_said_so(
    redis: Server, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to check."""
    redis.kill()

    assert train() == 2

    shown = capsys.readouterr().err
    assert "Redis does not answer" in shown
    assert "--url" in shown


@pytest.mark.parametrize("url", ["redis+cluster://a", "rediss+sentinel://a,b/shop"])
def test_a_url_of_several_servers_is_refused(
    train: Train, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """The caches of such servers take it, so the error says what to write instead."""
    assert train(url=url) == 2

    assert "any master: redis://" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "missing/rows.dict"], "There is no folder missing"),
        (["--namespace", "tr*ned"], "cannot begin a key"),
        (["--match", "row:{1}"], "cannot stand in the pattern"),
        (["--samples", "99"], "--samples"),
    ],
    ids=["folder", "namespace", "pattern", "samples"],
)
def test_an_option_that_cannot_be_used_is_refused(
    train: Train, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    """Before anything is read."""
    assert train(*options) == 2

    assert said in capsys.readouterr().err


def test_a_bracket_in_a_pattern_is_itself(
    redis: Server, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in every pattern of a cache."""
    fill(redis, 20)

    assert train("--match", "row:[1]*") == 2

    assert "0 small values match 'row:[1]*'" in capsys.readouterr().err


def test_the_keys_of_a_tenant_begin_with_its_name(
    redis: Server, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hint of an empty sample says how they are spelled."""

    async def store() -> None:
        async with TierCache(redis.url, namespace=NAMESPACE, tenant="acme") as cache:
            for number in range(120):
                while (await cache.set(f"row:{number}", a_row(number))).l2 != "done":
                    pass

    asyncio.run(store())

    assert train("--match", "row:*") == 2
    assert "?NAME?" in capsys.readouterr().err
    assert train("--match", "?acme?row:*", "--size", "512") == 0


def test_a_missing_package_is_named(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, "zstandard", None)

    assert train() == 2

    assert "async-tiercache[zstd]" in capsys.readouterr().err
