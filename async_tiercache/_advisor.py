"""The advisor: what the owner of a cache should know about its set-up, found when it opens.

Pure; the remote tier knows its own server and speaks for itself.
"""

from collections.abc import Iterator

from async_tiercache._options import UNSET, Policy, seconds


def advice_on(policy: Policy, *, l1: bool, l2: bool) -> Iterator[tuple[str, str]]:
    """Yield what there is to say about a cache, as names and messages.

    Args:
        policy: The cache's policy, as it was given.
        l1: Whether it has a memory tier.
        l2: Whether it has a remote tier.
    """
    if l1 and l2 and policy.l1_ttl is UNSET:
        yield (
            "l1-without-bus",
            (
                "Other processes are not told of invalidations: they may serve their copies for "
                "up to l1_ttl, 30 s by default. Set l1_ttl to what you accept, or l1=None."
            ),
        )
    grace = 0.0 if policy.grace is UNSET else seconds(policy.grace)
    if grace and policy.load_limit is UNSET and policy.soft_timeout is UNSET:
        yield (
            "grace-without-load-limit",
            (
                "grace helps at once when a loader fails, but when it hangs one caller per key "
                "waits for load_limit, 30 s by default. Set soft_timeout or load_limit."
            ),
        )
