"""Known schedules about looks."""

from typing import Final

from tests.core.simulation.spelled import Known, known, step, wait

LOOKS: Final[tuple[Known, ...]] = (
    known(
        # The second reader comes after the invalidation, and finds the look of the first.
        "look-holds",
        ("raw:0",),
        step("read", process=1, name="raw:0"),
        step("strike", process=0, what="reads", fate="have slow replies", times=1),
        step("read", process=0, name="raw:0"),
        wait(0.1),
        step("invalidate", process=0, keys=["raw:0"]),
        step("read", process=0, name="raw:0"),
        wait(0.5),
    ),
    known(
        # This process has not heard of it, and L2 has what is newer for those who ask now.
        "look-current",
        ("raw:0",),
        step("read", process=1, name="raw:0"),
        step("strike", process=0, what="messages", fate="come late", times=9),
        step("strike", process=0, what="reads", fate="have slow replies", times=1),
        step("read", process=0, name="raw:0"),
        wait(0.02),
        step("invalidate", process=1, keys=["raw:0"]),
        step("read", process=1, name="raw:0"),
        step("read", process=0, name="raw:0", how="many"),
        wait(0.2),
        step("read", process=0, name="raw:0"),
    ),
    known(
        "look-get",
        ("raw:0",),
        step("read", process=1, name="raw:0"),
        step("strike", process=0, what="messages", fate="come late", times=9),
        step("strike", process=0, what="reads", fate="have slow replies", times=1),
        step("read", process=0, name="raw:0"),
        wait(0.02),
        step("invalidate", process=1, keys=["raw:0"]),
        step("read", process=1, name="raw:0"),
        step("read", process=0, name="raw:0", how="look"),
        wait(0.2),
        step("read", process=0, name="raw:0"),
    ),
    known(
        # Its reply comes after a newer one.
        "get-current",
        ("raw:0",),
        step("read", process=1, name="raw:0"),
        step("strike", process=0, what="messages", fate="come late", times=9),
        step("strike", process=0, what="reads", fate="have slow replies", times=1),
        step("read", process=0, name="raw:0", how="look"),
        wait(0.02),
        step("invalidate", process=1, keys=["raw:0"]),
        step("read", process=1, name="raw:0"),
        step("read", process=0, name="raw:0"),
        wait(0.2),
        step("read", process=0, name="raw:0"),
    ),
    known(
        # What the load has read at its end is in no tier, and in L2 is what was read before.
        "look-floor",
        ("raw:0",),
        step("read", process=0, name="raw:0", takes=0.5, reads="late"),
        wait(0.1),
        step("invalidate", process=1, keys=["raw:0"]),
        step("read", process=1, name="raw:0"),
        wait(0.25),
        step("strike", process=0, what="reads", fate="have slow replies", times=2),
        step("strike", process=0, what="commits", fate="are slow", times=1),
        step("read", process=0, name="raw:0"),
        step("change", name="raw:0"),
        wait(1.0),
    ),
    known(
        # It was stopped while the reply was on its way, and a reader comes before that is heard.
        "look-proof",
        ("raw:0",),
        step("read", process=1, name="raw:0"),
        step("strike", process=0, what="messages", fate="are lost", times=1),
        step("strike", process=0, what="reads", fate="have slow replies", times=1),
        step("read", process=0, name="raw:0"),
        wait(0.1),
        step("pause", process=0),
        step("invalidate", process=1, keys=["raw:0"]),
        wait(2.5),
        step("resume", process=0, then=0),
        step("read", process=0, name="raw:0"),
        wait(0.5),
    ),
    known(
        # What is stored does not stand under the tag.
        "look-tags",
        ("raw:0", "label/raw:0"),
        step("read", process=1, name="raw:0"),
        step("invalidate", process=1, tags=["l"]),
        wait(2.5),
        step("strike", process=0, what="reads", fate="have slow replies", times=1),
        step("read", process=0, name="raw:0"),
        step("read", process=0, name="label/raw:0", how="many"),
        wait(0.5),
    ),
    known(
        # Nothing tells that it was changed. What the other reader got was loaded too long ago for
        # this process to keep it without a proof.
        "look-found-current",
        ("met:0",),
        step("read", process=1, name="met:0"),
        wait(6.3),
        step("strike", process=0, what="proofs", fate="are lost", times=99),
        step("read", process=1, name="met:0", takes=3.0, reads="late"),
        wait(2.5),
        step("change", name="met:0"),
        wait(0.4),
        step("strike", process=0, what="reads", fate="have slow replies", times=1),
        step("read", process=0, name="met:0", takes=0.5),
        wait(0.15),
        step("read", process=0, name="met:0", how="many"),
        wait(0.1),
        step("read", process=0, name="met:0"),
        wait(1.0),
    ),
)
"""In the order of the table of safeguards."""
