"""One process of a simulated service: a cache with families of several kinds."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from async_tiercache import LoadContext, Policy, TierCache
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET
from async_tiercache.errors import CacheClosedError
from async_tiercache.testing import SimulatedClient
from async_tiercache.testing._simulated_remote import SimulatedRemote
from tests.core.simulation.model import Model, Value

_TENANT: Final[ContextVar[str]] = ContextVar("tenant")

Page = tuple[str, int, list[Value]]

BOUND: Final = 2.0
L1_TTL: Final = 30.0
LOAD_LIMIT: Final = 10.0

ROWS: Final = ("row:0:0", "row:0:1", "row:1:0", "row:1:1")
METHODS: Final = ("met:0", "met:1")
RAWS: Final = ("raw:0", "raw:1")
DOCS: Final = ("doc:0",)
PAGES: Final = ("page:0",)
SHEETS: Final = ("sheet:0",)
OWN: Final = ("own:a:0", "own:b:0")
"""What tenants have of their own, each under the same key."""
LABELLED: Final = ("label/raw:0", "label/raw:1")
"""What is read by calls by key, read by a function that declares a tag."""
NAMES: Final = ROWS + METHODS + RAWS + PAGES + DOCS
TAGS: Final = ("g:0", "g:1", "m", "d:0")
_PARTS: Final = {"page:0": ("row:0:0", "row:0:1")}


def covered(names: Sequence[str] = (), tags: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the rows that are under names and tags; a page's part is ``page/row``."""
    found = [*names, *(f"label/{name}" for name in names if name in RAWS)]
    for tag in tags:
        kind, _, which = tag.partition(":")
        if kind == "g":
            rows = [row for row in ROWS if row.startswith(f"row:{which}:")]
            found += rows
            found += [f"{page}/{row}" for page in PAGES for row in _PARTS[page] if row in rows]
        elif kind == "m":
            found += METHODS
        elif kind == "l":
            found += LABELLED
        else:
            found += [f"doc:{which}", f"sheet:{which}/doc:{which}"]
    return tuple(dict.fromkeys(found))


def everything() -> tuple[str, ...]:
    """Return all rows, and all parts of pages."""
    parts = (f"{page}/{row}" for page, rows in _PARTS.items() for row in rows)
    sheets = (f"{sheet}/doc:{sheet[-1]}" for sheet in SHEETS)
    return (*NAMES, *parts, *SHEETS, *sheets, *OWN, *LABELLED)


class _Remote(SimulatedRemote):
    """Remembers what the server has refused."""

    def __init__(self, client: SimulatedClient, refused: set[bytes]) -> None:
        super().__init__(client)
        self._refused = refused

    async def commit(self, key: str, frame: bytes, seconds: float, /, **terms: Any) -> bool:
        stored = await super().commit(key, frame, seconds, **terms)
        if not stored:
            self._refused.add(entry_id_of(frame))
        return stored


def entry_id_of(frame: bytes) -> bytes:
    """Return the id of the entry in a frame."""
    return frame[ENTRY_ID_OFFSET:][:16]


class Process:
    """One cache, and how its rows are read.

    Args:
        client: Its way to the server.
        model: The source.
        number: Names this life of a process: one that follows a crash is another.

    Attributes:
        refused: The ids of entries that L2 would not take, as this process has been told.
    """

    def __init__(self, client: SimulatedClient, model: Model, number: int) -> None:
        self.client = client
        self.refused: set[bytes] = set()
        client.tiercache_remote = self._remote  # type: ignore[method-assign]
        self.model = model
        self.number = number
        self.entered = False
        self.cache = TierCache(
            namespace="test",
            client=client,
            clock=client.clock,
            policy=Policy(ttl=1000, l1_ttl=L1_TTL, load_limit=LOAD_LIMIT),
            staleness_bound=BOUND,
        )
        self._single: dict[str, Callable[..., Any]] = {}
        self._many: dict[str, Callable[..., Any]] = {}

    def _remote(self, **_: Any) -> SimulatedRemote:
        return _Remote(self.client, self.refused)

    @property
    def runs(self) -> bool:
        """Whether it can be called."""
        state = getattr(self.client.clock, "state", "running")
        return self.entered and state in {"running", "waking"}

    async def enter(self) -> None:
        """Enter its cache, unless that is closed meanwhile."""
        with suppress(CacheClosedError):
            await self.cache.__aenter__()
            self.entered = True

    def single(self, kind: str) -> Any:
        """Return the call that reads one row; families are made when they are needed."""
        if kind not in self._single:
            declare = {
                "row": self._declare_rows,
                "met": self._declare_methods,
                "page": self._declare_pages,
                "doc": self._declare_docs,
                "sheet": self._declare_sheets,
                "own": self._declare_own,
                "label/raw": self._declare_labelled,
            }
            declare[kind]()
        return self._single[kind]

    def _declare_rows(self) -> None:
        @self.cache.cached("row:{group}:{key}", tags=["g:{group}"])
        async def row(group: int, key: int) -> Value:
            return (await self.model.load(self.client.clock, f"row:{group}:{key}"))[0]

        @row.batch
        async def rows(group: int, keys: list[int]) -> dict[int, Value]:
            names = [f"row:{group}:{key}" for key in keys]
            return dict(zip(keys, await self.model.load(self.client.clock, *names), strict=True))

        self._single["row"], self._many["row"] = row, rows

    def _declare_methods(self) -> None:
        process = self

        class Repository:
            @self.cache.cached("met:{key}", ttl=6, grace=100, tags=["m"])
            async def met(self, key: int) -> Value:
                return (await process.model.load(process.client.clock, f"met:{key}"))[0]

            @met.batch
            async def mets(self, keys: list[int]) -> dict[int, Value]:
                names = [f"met:{key}" for key in keys]
                found = await process.model.load(process.client.clock, *names)
                return dict(zip(keys, found, strict=True))

        repository = Repository()
        self._single["met"], self._many["met"] = repository.met, repository.mets

    def _declare_pages(self) -> None:
        @self.cache.cached("page:{group}")
        async def page(group: int) -> Page:
            with self.model.loading(f"page:{group}"):
                parts = [await self._part(f"row:{group}:{key}") for key in range(2)]
                own = await self.model.look(self.client.clock, f"page:{group}")
                return own[0][0], own[0][1], parts

        self._single["page"] = page

    def _declare_docs(self) -> None:
        @self.cache.cached("doc:{key}", on_abandon="finish", ttl=8, grace=4, early=2)
        async def doc(key: int, context: LoadContext = LoadContext()) -> Value:
            value = (await self.model.load(self.client.clock, f"doc:{key}"))[0]
            context.tags = [f"d:{key}"]
            return context.not_modified() if context.stale_value == value else value

        self._single["doc"] = doc

    def _declare_sheets(self) -> None:
        @self.cache.cached("sheet:{key}")
        async def sheet(key: int) -> Page:
            with self.model.loading(f"sheet:{key}"):
                part = await self._part(f"doc:{key}")
                return f"sheet:{key}", self.model.version(f"sheet:{key}"), [part]

        self._single["sheet"] = sheet

    def _declare_labelled(self) -> None:
        # Without an annotation it is stored as what is put by a call by key.
        @self.cache.cached("raw:{key}", tags=["l"])
        async def labelled(key: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
            return (await self.model.load(self.client.clock, f"raw:{key}"))[0]

        self._single["label/raw"] = labelled

    def _declare_own(self) -> None:
        # Not entered: what is of tenants here is in L2 alone.
        shared = TierCache(
            namespace="test", client=self.client, clock=self.client.clock, tenant=_TENANT.get
        )

        @shared.cached("own:{key}")
        async def own(key: int) -> Value:
            return (await self.model.load(self.client.clock, f"own:{_TENANT.get()}:{key}"))[0]

        async def read(tenant: str, key: str) -> Value:
            _TENANT.set(tenant)
            return await own(int(key))

        self._single["own"] = read

    async def _part(self, name: str) -> Value:
        """Read a row inside of a load, which must not miss what L2 has confirmed."""
        kind, _, rest = name.partition(":")
        begun, number = self.client.clock.monotonic(), self.number
        floors = self.model.floors(number, name, nested=True)
        value: Value = await self.single(kind)(*(int(each) for each in rest.split(":")))
        self.model.check(number, name, tuple(value), floors, begun, nested=True)
        return value

    async def read(self, name: str, how: str) -> dict[str, Any]:
        """Return what a read returns, by row; a page's parts as ``page/row``."""
        kind, _, rest = name.partition(":")
        if kind == "own":
            return {name: tuple(await self.single(kind)(*rest.split(":")))}
        arguments = [int(each) for each in rest.split(":")]
        if how == "look" and kind not in {"page", "sheet", "label/raw"}:
            found = await self.cache.get_many([each for each in NAMES if each.startswith(kind)])
            return {each: tuple(value) for each, value in found.items()}
        if kind == "raw" or (kind == "label/raw" and how == "many"):
            return await self._read_raw(name, how)
        if how == "refresh":
            value = await self.single(kind).refresh(*arguments)
        elif how == "many" and kind in {"row", "met"}:
            self.single(kind)
            *scope, _ = arguments
            found = await self._many[kind](*scope, [0, 1])
            prefix = name.rpartition(":")[0]
            return {f"{prefix}:{key}": value for key, value in found.items()}
        else:
            value = await self.single(kind)(*arguments)
        if kind not in {"page", "sheet"}:
            return {name: tuple(value)}
        own, version, parts = value
        return {name: (own, version, ""), **{f"{name}/{part[0]}": tuple(part) for part in parts}}

    async def _read_raw(self, name: str, how: str) -> dict[str, Any]:
        if how == "many" and name in RAWS:

            async def load_many(names: list[str]) -> dict[str, Any]:
                found = await self.model.load(self.client.clock, *names)
                return {value[0]: value for value in found}

            found = await self.cache.get_or_load_many(list(RAWS), load_many)
            return {each: tuple(value) for each, value in found.items()}

        async def load():  # type: ignore[no-untyped-def]  # noqa: ANN202 - plain data
            return (await self.model.load(self.client.clock, raw))[0]

        label, _, raw = name.rpartition("/")
        tags = ["l"] if label else []
        return {name: tuple(await self.cache.get_or_load(raw, load, tags=tags))}
