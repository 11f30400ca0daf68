"""What an error from redis-py says: a server does not serve, or it refuses this one command."""

from typing import Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

# Not every version of redis-py has a class for each of these.
_DOWN_ANSWERS: Final = (
    "BUSY ",
    "CLUSTERDOWN ",
    "LOADING ",
    "MASTERDOWN ",
    "MISCONF ",
    "NOAUTH ",
    "NOREPLICAS ",
    "READONLY ",
)
_DOWN: Final = (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
)


class NodeDownError(RedisConnectionError):
    """One node of a Cluster does not serve, while others do."""


def is_down(error: BaseException) -> bool:
    """Return whether the server, or what leads to it, does not serve at all."""
    if not isinstance(error, ResponseError):
        return True
    return isinstance(error, _DOWN) or str(error).startswith(_DOWN_ANSWERS)


def is_demoted(reply: object) -> bool:
    """Return whether a reply tells that the server is a replica by now."""
    return isinstance(reply, ReadOnlyError | MasterDownError)


def is_cut_off(reply: object) -> bool:
    """Return whether a reply tells that the server hangs up, for what it was sent."""
    return isinstance(reply, ResponseError) and str(reply).startswith("Protocol error")
