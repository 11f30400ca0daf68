"""Safeguards of looks, by which most reads of L2 are answered, and of what follows a load."""

from typing import Final

from tests.mutations.mutation import Mutation

_LOOK: Final = "async_tiercache/_look.py"
_LOOKS: Final = "async_tiercache/_looks.py"
_FOLLOWING: Final = "async_tiercache/_followers.py"
_TESTS: Final = "tests/core/test_looks.py::"
_OVERTAKEN: Final = "tests/core/test_overtaken_looks.py::"
_FOLLOWERS: Final = "tests/core/test_followers.py::"
_SURVEYS: Final = "tests/core/test_surveys.py::"

LOOKS: Final = (
    Mutation(
        name="look-holds",
        safeguard="A look that something has happened to answers nobody.",
        guards="G2, G3",
        file=_LOOKS,
        before="if ledger.latest is not question.moment or ledger.floors or question.taken:",
        after="if ledger.floors or question.taken:",
        named=(
            "tests/core/test_coherence_schedules.py::test_a_read_of_l2_that_was_followed_by_an_invalidation_elsewhere_is_not_believed",
            "tests/core/test_invalidation.py::test_a_read_of_l2_that_began_before_the_delete_is_not_believed",
        ),
    ),
    Mutation(
        name="look-current",
        safeguard="Nor does one whose key somebody else has asked L2 for since.",
        guards="G4",
        file=_LOOK,
        before="return self.home.by_key.get(key) is self.looks[key]",
        after="return bool(self.home.by_key.setdefault(key, self.looks[key]))",
        named=(
            f"{_OVERTAKEN}test_a_batch_overtakes_a_look",
            f"{_OVERTAKEN}test_a_get_overtakes_a_look",
            f"{_OVERTAKEN}test_a_reader_of_another_function_overtakes_a_look",
            f"{_OVERTAKEN}test_a_reader_joins_no_old_look_without_a_proof",
        ),
    ),
    Mutation(
        name="survey-holds",
        safeguard="A key of a batch that something has happened to is asked for again.",
        guards="G2, G3",
        file=_LOOKS,
        before="(ledger.moment is asked.moment or ledger.holds(asked.basis(key)))",
        after="True",
        named=(
            f"{_SURVEYS}test_a_key_that_is_invalidated_meanwhile_is_asked_for_again",
            f"{_SURVEYS}test_keys_whose_tag_is_invalidated_meanwhile_are_asked_for_again",
        ),
        note="The batch began before the invalidation, so no promise is about what it returns; "
        "that L1 keeps nothing of it, and that no later reader has it, others see to.",
    ),
    Mutation(
        name="survey-current",
        safeguard="So is one that somebody else has asked L2 for since.",
        guards="G4",
        file=_LOOKS,
        before="            asked.owns(key)\n            and ",
        after="            ",
        named=(f"{_SURVEYS}test_whoever_asks_later_overtakes_a_key_of_a_batch",),
    ),
    Mutation(
        name="survey-floor",
        safeguard="So is one of which this process has shown what may be newer, kept nowhere.",
        guards="G4",
        file=_LOOKS,
        before="            and not ledger.is_below_floor(key, created_at)\n",
        after="",
        named=(f"{_SURVEYS}test_a_batch_does_not_follow_what_was_shown_while_it_asked",),
    ),
    Mutation(
        name="survey-late",
        safeguard="All of that is decided when the values of a batch are decoded, not before.",
        guards="G2, G3",
        file=_LOOKS,
        before="if ledger.latest is not survey.moment or ledger.floors or survey.taken:",
        after="if ledger.floors or survey.taken:",
        named=(
            f"{_SURVEYS}test_a_key_that_is_invalidated_meanwhile_is_asked_for_again",
            f"{_SURVEYS}test_what_is_invalidated_while_a_batch_is_decoded_is_asked_for_again",
        ),
        note="As for `survey-holds`.",
    ),
    Mutation(
        name="survey-learns",
        safeguard="A batch learns no state of a tag that it has not asked about for a key.",
        guards="G2",
        file=_LOOKS,
        before="self._finder.learn(survey.basis_of(keys), states)",
        after="self._finder.learn(survey.basis_of(survey.tags), states)",
        named=(f"{_SURVEYS}test_a_batch_learns_no_state_of_a_tag_that_l2_has_yet_to_invalidate",),
    ),
    Mutation(
        name="look-flight",
        safeguard="A flight asks L2 for itself, so that the key's look answers no more.",
        guards="G4",
        file="async_tiercache/_pilot.py",
        before="        self._looks.detach(key)\n",
        after="",
        named=(f"{_OVERTAKEN}test_a_batch_overtakes_a_look",),
    ),
    Mutation(
        name="look-get",
        safeguard="So does a call by key.",
        guards="G4",
        file=_LOOKS,
        before="        self.detach(basis.key)\n"
        "        look = Look.at(self._home, family, basis, many=True)",
        after="        look = Look.at(Home(), family, basis, many=True)",
        named=(f"{_OVERTAKEN}test_a_get_overtakes_a_look",),
    ),
    Mutation(
        name="get-current",
        safeguard="And keeps nothing if somebody else has asked meanwhile.",
        guards="G4",
        file="async_tiercache/_getter.py",
        before="                if claim.current:\n",
        after="                if True:\n",
        named=(f"{_OVERTAKEN}test_a_get_that_was_overtaken_keeps_nothing",),
    ),
    Mutation(
        name="look-floor",
        safeguard="Nor is it answered with what may be older than what was shown and kept nowhere.",
        guards="G4",
        file=_LOOKS,
        before="if ledger.latest is not question.moment or ledger.floors or question.taken:",
        after="if ledger.latest is not question.moment or question.taken:",
        named=(
            f"{_TESTS}test_what_happens_while_values_are_decoded_counts[shown]",
            "tests/core/test_overtaken.py::test_what_another_process_has_loaded_before_is_older_though_this_one_is_behind",
        ),
    ),
    Mutation(
        name="look-proof",
        safeguard="Without a proof no look is joined that began longer ago than the bound.",
        guards="G3",
        file=_LOOKS,
        before="now < ledger.proof_deadline or now - began < ledger.join_seconds",
        after="bool(ledger)",
        named=(f"{_OVERTAKEN}test_a_reader_joins_no_old_look_without_a_proof",),
    ),
    Mutation(
        name="join-proof",
        safeguard="Nor is one that a compiled call has found, or what follows a load.",
        guards="G3, G5",
        file="async_tiercache/_callpath.py",
        before="{seen} < {RESERVED}ledger.epoch.deadline",
        after="{seen} is not None",
        named=(
            f"{_OVERTAKEN}test_a_reader_joins_no_old_look_without_a_proof",
            f"{_FOLLOWERS}test_without_a_proof_an_old_load_is_followed_by_nobody",
        ),
    ),
    Mutation(
        name="follow-epoch",
        safeguard="Nobody follows a load any more, unasked, once any tag was invalidated.",
        guards="G2, G5",
        file=_FOLLOWING,
        before="            look.epoch is not self._ledger.epoch\n            or ",
        after="            ",
        named=(
            f"{_FOLLOWERS}test_who_comes_after_an_invalidation_follows_nothing_older[its tag]",
            f"{_FOLLOWERS}test_who_comes_after_an_invalidation_follows_nothing_older[everything]",
        ),
    ),
    Mutation(
        name="follow-flight",
        safeguard="Nor once the load was detached.",
        guards="G2, G5",
        file=_FOLLOWING,
        before="            or not flight.joinable\n",
        after="",
        named=(f"{_FOLLOWERS}test_who_comes_after_an_invalidation_follows_nothing_older[its key]",),
    ),
    Mutation(
        name="look-tags",
        safeguard="A look is joined only under the tags that it looks for.",
        guards="G2",
        file=_LOOKS,
        before=" or theirs.tags != wanted.tags",
        after="",
        named=(f"{_TESTS}test_a_reader_under_another_tag_joins_no_look",),
    ),
    Mutation(
        name="look-found-current",
        safeguard="Nor does a flight go on then with what the look has found.",
        guards="G4",
        file="async_tiercache/_view.py",
        before="looked.found if looked.current and self._ledger.holds(looked.basis) else None",
        after="looked.found if self._ledger.holds(looked.basis) else None",
        named=(f"{_OVERTAKEN}test_a_reader_joins_no_old_look_without_a_proof",),
    ),
)
"""Each of them, taken out."""
