"""The advisor: what the owner of a cache should know about its set-up, found when it opens.

Pure; the remote tier knows its own server and speaks for itself.
"""

from collections.abc import Iterator

from async_tiercache._options import UNSET, Policy, seconds
from async_tiercache.errors import TierRefusedError


def advice_on(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield what there is to say about a cache of a policy, as names and messages."""
    grace = 0.0 if policy.grace is UNSET else seconds(policy.grace)
    if grace and policy.load_limit is UNSET and policy.soft_timeout is UNSET:
        yield (
            "grace-without-load-limit",
            (
                "grace helps at once when a loader fails, but when it hangs one caller per key "
                "waits for load_limit, 30 s by default. Set soft_timeout or load_limit."
            ),
        )


def refusal(error: TierRefusedError) -> str:
    """Return what to say about a command that the remote tier has refused."""
    said = f"{error.args[0]}. What L2 refuses, each process does without."
    return f"{said} {error.hint}" if error.hint else said
