"""Safeguards of tags, blocks, values made from values, and of the bus."""

from typing import Final

from tests.mutations.mutation import Edit, Mutation

_BUS: Final = "async_tiercache/testing/_simulated_bus.py"
_REMOTE: Final = "async_tiercache/testing/_simulated_remote.py"
_SERVER: Final = "async_tiercache/testing/_simulated_server.py"
_SCRIPTS: Final = "async_tiercache/backends/redis/evidence.py"
_LINE: Final = "async_tiercache/backends/redis/line.py"
_FINDER: Final = "async_tiercache/_finder.py"
_JUDGE: Final = "async_tiercache/_judge.py"
_FLIGHT: Final = "async_tiercache/_flight.py"
_LEDGER: Final = "async_tiercache/_ledger.py"
_VIEW: Final = "async_tiercache/_view.py"
_TIERS: Final = "async_tiercache/_tiers.py"
_MODEL: Final = "the simulator's bus decides this in code of its own, out of which it is taken, too"

EVIDENCE: Final = (
    # Tags.
    Mutation(
        name="pending-tags",
        safeguard="L2 is not believed about a declared tag that it has yet to invalidate.",
        guards="G2",
        file=_FINDER,
        before="if not believed or not ledger.may_ask(key, tags):",
        after="if not believed or not ledger.may_ask(key):",
        named=(
            "tests/core/test_safeguards.py::test_l2_is_read_around_under_a_tag_that_it_has_yet_to_invalidate",
        ),
    ),
    Mutation(
        name="pending-asked-tags",
        safeguard="Nor is it asked about a tag that only the stored entry names.",
        guards="G2",
        file=_FINDER,
        before="        return self._ledger.may_ask(basis.key, basis.tags)\n\n    async def _ask",
        after="        return True\n\n    async def _ask",
        named=(
            "tests/core/test_safeguards.py::test_l2_is_not_asked_about_a_tag_that_only_its_entry_names_before_it_has_confirmed",
            "tests/core/test_safeguards.py::test_l2_is_not_believed_about_a_tag_that_only_its_entry_names",
            "tests/core/test_safeguards.py::test_the_state_of_a_tag_from_before_is_forgotten_when_l2_has_confirmed",
        ),
    ),
    Mutation(
        name="pending-overflow",
        safeguard="When too much is pending, the whole namespace is.",
        guards="G2",
        file=_LEDGER,
        before="        self._tags[NAMESPACE] = record_id\n",
        after="",
        named=(
            "tests/core/test_coherence_proof.py::test_more_pending_invalidations_than_are_remembered_become_one_of_all",
            "tests/core/test_tags_late.py::test_pending_tags_are_bounded",
        ),
    ),
    Mutation(
        name="ids-before",
        safeguard="A value carries the ids that its tags had before it was loaded.",
        guards="G1",
        file="async_tiercache/_filler.py",
        before="            header = with_evidence(",
        after=(
            "            await self._finder.ask(flight.basis, family.counts)\n"
            "            header = with_evidence("
        ),
        named=(
            "tests/core/test_tags_late.py::test_a_named_tag_is_asked_for_before_the_next_load",
            "tests/core/test_tags_late.py::test_a_reader_after_an_invalidation_joins_no_load_that_began_before",
            "tests/core/test_tags_late.py::test_a_reader_after_an_invalidation_does_not_get_what_another_process_loads",
        ),
    ),
    Mutation(
        name="tag-epoch",
        safeguard="Tags that a loader names count only if no tag was invalidated since it began.",
        guards="G1",
        file=_FINDER,
        before="return after is not UNREACHED and pair_of(after) == before",
        after="return True",
        named=(
            "tests/core/test_tags_late.py::test_an_invalidation_during_the_load_gives_the_value_to_its_callers_only",
            "tests/core/test_tags_late.py::test_an_epoch_that_was_lost_is_no_proof",
        ),
    ),
    Mutation(
        name="new-id",
        safeguard="Each execution of an invalidation gives a tag an id never used before.",
        guards="G1",
        file=_SCRIPTS,
        before="  local id = chance .. moment\n  return id .. id",
        after="  local id = chance .. string.rep('\\\\0', 6)\n  return id .. id",
        named=(
            "tests/core/test_safeguards.py::test_a_command_that_is_carried_out_again_gives_no_id_again",
        ),
        simulated=(
            Edit(
                _SERVER,
                before=(
                    "        for tag in record.tags:\n"
                    "            self._invalidate_tag(tag, None if record.soft is None else "
                    "until)\n"
                ),
                after=(
                    "        first = int.from_bytes(record.id[:9]) << 16\n"
                    "        ids, self._ids = self._ids, itertools.count(first)\n"
                    "        for tag in record.tags:\n"
                    "            self._invalidate_tag(tag, None if record.soft is None else "
                    "until)\n"
                    "        self._ids = ids\n"
                ),
            ),
        ),
    ),
    Mutation(
        name="judge-tags",
        safeguard="An entry one of whose tags has another id than it carries is dead.",
        guards="G1",
        file=_JUDGE,
        before='                if verdict == "dead":\n                    return "tag"',
        after='                if verdict == "dead":\n                    continue',
        named=(
            "tests/core/test_tags.py::test_a_tag_removes_what_stands_under_it_from_both_tiers_everywhere",
        ),
    ),
    Mutation(
        name="namespace-id",
        safeguard="An entry from before the last clearing of the namespace is dead.",
        guards="G1",
        file=_JUDGE,
        before="        if header.namespace != pair_of(states[NAMESPACE]):\n            return",
        after="        if False:\n            return",
        named=(
            "tests/core/test_tags_late.py::test_a_reader_after_an_invalidation_joins_no_load_that_began_before",
            "tests/core/test_tags_late.py::test_a_lost_state_is_a_miss",
            "tests/core/test_tags_late.py::test_a_state_lost_before_an_invalidation_revives_nothing",
        ),
    ),
    Mutation(
        name="declared-tags",
        safeguard="An entry without a tag that its caller declares is not served under it.",
        guards="G1",
        file=_JUDGE,
        before="        if basis.declared and not {",
        after="        if False and not {",
        named=(
            "tests/core/test_tags.py::test_what_was_put_without_a_tag_is_not_served_where_it_is_declared",
            "tests/core/test_coherence_late.py::test_a_value_without_a_declared_tag_is_not_served_under_it",
        ),
    ),
    Mutation(
        name="soft-new-id",
        safeguard="A soft invalidation gives an entry a new id, so that no refresh replaces it.",
        guards="G1",
        file="async_tiercache/backends/redis/changes.py",
        before="times = Header(record.id, ",
        after="times = Header(bytes(16), ",
        simulated=(Edit(_REMOTE, before="entry_id=record.id,", after="entry_id=bytes(16),"),),
        named=(
            "tests/core/test_safeguards.py::test_what_is_softly_invalidated_has_an_id_of_its_own",
        ),
    ),
    Mutation(
        name="soft-takes-leases",
        safeguard="A soft invalidation takes the leases of loads in progress away.",
        guards="G1",
        file=_SCRIPTS,
        before="  elseif not is_block(name) then\n    redis.call('DEL', name)",
        after="  elseif not soft and not is_block(name) then\n    redis.call('DEL', name)",
        named=("tests/core/test_soft.py::test_a_load_in_progress_stores_nothing_fresh",),
        simulated=(
            Edit(
                _SERVER,
                before=(
                    "            else:\n"
                    '                self.held.pop(("key", key), None)\n'
                    "        self._publish(record)"
                ),
                after=(
                    "            elif record.soft is None:\n"
                    '                self.held.pop(("key", key), None)\n'
                    "        self._publish(record)"
                ),
            ),
        ),
    ),
    Mutation(
        name="soft-no-window",
        safeguard="What is softly invalidated without a window is served by no clock.",
        guards="G1",
        file="async_tiercache/backends/redis/changes.py",
        before="now + seconds if seconds else NEVER_SERVED",
        after="now + seconds",
        named=(
            "tests/core/test_soft.py::test_without_a_window_it_is_given_to_the_loader_alone",
            "tests/core/test_soft.py::test_without_a_window_the_loader_may_find_it_current",
        ),
        simulated=(
            Edit(
                _REMOTE,
                before="self.now() + record.soft if record.soft else NEVER_SERVED",
                after="self.now() + record.soft",
            ),
        ),
    ),
    Mutation(
        name="hard-beats-soft",
        safeguard="What was invalidated hard is not served as stale, though it was soft before.",
        guards="G1",
        file=_SCRIPTS,
        before="  if soft then\n    state = ",
        after=(
            "  if not soft and string.sub(old, -8) ~= string.rep('\\\\0', 8) then\n"
            "    state = string.sub(old, 1, {ID_BYTES}) .. string.sub(state, 1, {ID_BYTES})\n"
            "      .. string.sub(old, {2 * ID_BYTES + 1})\n  end\n"
            "  if soft then\n    state = "
        ),
        named=(
            "tests/core/test_soft.py::test_hard_wins_in_any_order",
            "tests/core/test_coherence_soft.py::test_what_was_hard_once_is_not_served_again",
        ),
        simulated=(
            Edit(
                _SERVER,
                before="        if until is None:\n            raw = self._new_state()",
                after=(
                    "        if until is None and state is not None and state.until > 0:\n"
                    "            raw = state.hard + self._new_id() + state.softened + "
                    "pack_until(state.until)\n"
                    "        elif until is None:\n"
                    "            raw = self._new_state()"
                ),
            ),
        ),
    ),
    # Blocks.
    Mutation(
        name="block-stays",
        safeguard="An invalidation leaves a writer's block where it is.",
        guards="G10",
        file=_SCRIPTS,
        before="  elseif not is_block(name) then\n    redis.call('DEL', name)",
        after="  else\n    redis.call('DEL', name)",
        named=("tests/core/test_blocks.py::test_no_other_change_opens_it",),
        simulated=(
            Edit(
                _SERVER,
                before=(
                    "            if _is_block(raw):\n"
                    "                continue\n"
                    "            if record.soft"
                ),
                after="            if record.soft",
            ),
        ),
    ),
    Mutation(
        name="last-one-out",
        safeguard="Of several writers that block a key the last one out opens it.",
        guards="G10",
        file=_SCRIPTS,
        before="  local blocks, latest = blocks_of(name, token)\n  if blocks == '' then",
        after="  local blocks, latest = '', 0\n  if blocks == '' then",
        named=("tests/core/test_blocks.py::test_the_first_one_out_does_not_open",),
        simulated=(
            Edit(
                _SERVER,
                before="            blocks.pop(token, None)",
                after="            blocks.clear()",
            ),
        ),
    ),
    Mutation(
        name="blocked-key-keeps-nothing",
        safeguard="What is read while its key is blocked is kept nowhere.",
        guards="G10",
        file="async_tiercache/_pilot.py",
        before="            flight.basis.sound = False\n        doubt",
        after="            pass\n        doubt",
        named=(
            "tests/core/test_blocks.py::test_readers_meanwhile_load_for_themselves_and_keep_nothing_in_l2",
            "tests/core/test_blocks.py::test_a_writer_that_dies_leaves_nothing_old",
        ),
    ),
    Mutation(
        name="blocked-tag-keeps-nothing",
        safeguard="What is read while one of its tags is blocked is kept nowhere.",
        guards="G10",
        file=_FINDER,
        before="                # A writer is about to change what stands under the tag.\n"
        "                basis.sound = False",
        after="                pass",
        named=(
            "tests/core/test_blocks.py::test_readers_meanwhile_load_for_themselves_and_keep_nothing_in_l2",
            "tests/core/test_blocks.py::test_a_load_that_names_a_blocked_tag_is_not_kept",
            "tests/core/test_blocks.py::test_a_writer_that_dies_leaves_nothing_old",
        ),
    ),
    # Values made from values.
    Mutation(
        name="nested-l1",
        safeguard="A read inside of a load asks L2, not L1, which may be behind the bus.",
        guards="G1",
        file=_VIEW,
        before="if inside() is not None and self._tiers.has_remote:\n            return None",
        after="if False:\n            return None",
        named=(
            "tests/core/test_nesting.py::test_a_copy_that_is_behind_the_bus_gets_into_no_other_value",
            "tests/core/test_coherence_parts.py::test_a_part_that_the_bus_has_not_told_of_is_asked_from_l2",
        ),
    ),
    Mutation(
        name="overtaken-part",
        safeguard="Inside of a load an overtaken value is replaced by a later one, too.",
        guards="G4",
        file=_VIEW,
        before="            return outcome if again else None\n        key, slot",
        after="            return outcome\n        key, slot",
        named=(
            "tests/core/test_nesting.py::test_a_part_whose_named_tag_was_invalidated_meanwhile_is_loaded_again",
        ),
    ),
    Mutation(
        name="nested-known",
        safeguard="And it asks L2 for the states of tags, whatever this process remembers of them.",
        guards="G1",
        file=_FINDER,
        before="return None if inside() is not None else self._ledger.known(tag, now)",
        after="return self._ledger.known(tag, now)",
        named=("tests/core/test_nesting.py::test_a_part_is_judged_by_what_l2_says_of_its_tags",),
    ),
    Mutation(
        name="nested-older-flight",
        safeguard="A read inside of a load takes nothing from a load that began before that.",
        guards="G1, G5",
        file=_VIEW,
        before="return flight.number < loading.number or (",
        after="return (",
        named=(
            "tests/core/test_nesting.py::test_a_load_that_began_before_gives_no_value_to_a_later_one",
        ),
    ),
    Mutation(
        name="nested-tags",
        safeguard="A value stands under the tags of all values that it is made from.",
        guards="G1",
        file=_FLIGHT,
        before="                flight.basis.absorb(part)\n",
        after="                flight.basis.limit(part.fresh_until, sound=part.sound)\n",
        named=(
            "tests/core/test_nesting.py::test_a_value_carries_the_tags_of_its_parts",
            "tests/core/test_coherence_parts.py::test_a_page_ends_with_a_tag_of_its_part",
        ),
    ),
    Mutation(
        name="proven-parts",
        safeguard="While the late tags of a part are proven, its load tells who may join.",
        guards="G2, G5",
        file="async_tiercache/_inside.py",
        before="        loading.begin_wait(flight)",
        after="        pass",
        named=(
            "tests/core/test_coherence_parts.py::test_a_page_is_not_joined_while_its_part_is_proven",
        ),
    ),
    Mutation(
        name="nested-fresh",
        safeguard="A value is fresh no longer than those that it is made from.",
        guards="freshness",
        file="async_tiercache/_basis.py",
        before="        self.fresh_until = min(self.fresh_until, fresh_until)\n",
        after="",
        named=(
            "tests/core/test_nesting.py::test_a_value_is_fresh_no_longer_than_its_parts",
            "tests/core/test_coherence_parts.py::test_a_page_is_fresh_no_longer_than_its_part",
        ),
    ),
    # The bus.
    Mutation(
        name="proof-of-hits",
        safeguard="A compiled call serves L1 only while the bus proves that nothing was missed.",
        guards="G3",
        file="async_tiercache/_callpath.py",
        before='f"({proof} or ({recheck} and {proof})) and',
        after='f"({proof} or {recheck}) and',
        named=(
            "tests/core/test_safeguards.py::test_a_compiled_call_does_not_serve_l1_beyond_the_proof",
        ),
        cells=(
            "proxy_halfopen",
            "sigstop_worker",
        ),
    ),
    Mutation(
        name="proof-of-reads",
        safeguard="Every other read serves L1 only while the bus proves that, too.",
        guards="G3",
        file=_TIERS,
        before="if now >= ledger.proof_deadline and slot.epoch is not UNPROVEN:",
        after="if False:",
        named=(
            "tests/core/test_coherence_proof.py::test_a_bus_that_is_away_keeps_every_way_to_read_within_the_bound",
            "tests/core/test_coherence_schedules.py::test_an_entry_that_was_passed_over_never_comes_back",
        ),
        cells=(
            "proxy_halfopen",
            "sigstop_worker",
        ),
    ),
    Mutation(
        name="bypassed",
        safeguard="An entry that was passed over for want of a proof is removed.",
        guards="G4",
        file=_TIERS,
        before="            ledger.bypassed += 1\n            store.drop(key)\n",
        after="            ledger.bypassed += 1\n",
        named=(
            "tests/core/test_coherence_schedules.py::test_an_entry_that_was_passed_over_never_comes_back",
        ),
        cells=(
            "proxy_halfopen",
            "sigstop_redis",
        ),
    ),
    Mutation(
        name="unproven-bound",
        safeguard="What is kept without a proof is served for the bound from its load's begin.",
        guards="G3",
        file=_TIERS,
        before="l1_ttl, epoch = min(l1_ttl, header.created_at + self._bound - now), UNPROVEN",
        after="epoch = UNPROVEN",
        named=(
            "tests/core/test_coherence_proof.py::test_without_a_proof_a_load_is_kept_for_the_bound_only",
        ),
        cells=(
            "proxy_halfopen",
            "sigstop_redis",
        ),
    ),
    Mutation(
        name="gap",
        safeguard="Who connects again drops L1 unless the last message is the one applied last.",
        guards="G3",
        file=_LINE,
        before="        if held is None or held != self._applied:",
        after="        if held is None:",
        named=("tests/core/test_coherence_proof.py::test_a_cut_that_missed_a_message_empties_l1",),
        cells=("client_kill",),
        simulated=(
            Edit(
                _BUS,
                before="        if last is None or last != known or not same:",
                after="        if last is None or not same:",
            ),
        ),
        note=_MODEL,
    ),
    Mutation(
        name="run-id",
        safeguard="What another or a restarted server says of the last message is no evidence.",
        guards="G3, G9",
        file=_LINE,
        before="        if not run_id or run_id != known:",
        after="        if False:",
        named=(
            "tests/testing/test_bus_in_memory.py::test_a_server_that_has_restarted_is_another",
            "tests/core/test_coherence_proof.py::test_a_server_that_lost_an_invalidation_is_told_again",
        ),
        cells=(
            "old_snapshot",
            "failover",
        ),
        simulated=(
            Edit(_BUS, before="        same = run == self._run\n", after="        same = True\n"),
        ),
        note=_MODEL,
    ),
    Mutation(
        name="resumed",
        safeguard="What comes while the server says what was last counts only after its answer.",
        guards="G3",
        file=_LINE,
        before="        if message_id is not None and self._resumed:",
        after="        if message_id is not None:",
        named=(
            "tests/core/test_coherence_proof.py::test_a_message_after_a_cut_does_not_hide_one_that_was_lost_in_it",
        ),
        cells=("client_kill",),
        simulated=(
            Edit(
                _BUS,
                before="        if last is None or last != known or not same:",
                after="        if last is None or last != self._last or not same:",
            ),
        ),
        note=_MODEL,
    ),
    Mutation(
        name="leave",
        safeguard="Once another server has its place, what the old one confirms does not count.",
        guards="G2, G9",
        file="async_tiercache/backends/redis/runs.py",
        before="                    leave()\n                self.replaced()",
        after="                    pass\n                self.replaced()",
        named=(
            "tests/backends/test_redis_runs.py::test_connections_to_the_server_of_before_are_left_first",
        ),
        cells=("switchover",),
        note="the simulator has one server, so nobody is connected to one of before",
    ),
    Mutation(
        name="demoted",
        safeguard="A server that has become a replica proves nothing, whatever it answers.",
        guards="G3",
        file=_LINE,
        before="            if self._written is not None:\n                commands.insert",
        after="            if not self._written:\n                commands.insert",
        named=("tests/servers/test_bus.py::test_a_replica_proves_nothing",),
        cells=("demotion",),
        note="the simulator's server is always a master",
    ),
    Mutation(
        name="elsewhere",
        safeguard="The bus leaves a server when commands go to another one.",
        guards="G3",
        file="async_tiercache/backends/redis/remote.py",
        before="bus.leave if isinstance(bus, Line) else None",
        after="None",
        named=("tests/servers/test_bus.py::test_a_bus_is_where_commands_go",),
        note="the simulator has one server, so commands go to no other",
    ),
    Mutation(
        name="nil-last",
        safeguard="That the id of the last message is lost is no evidence either.",
        guards="G3",
        file=_LINE,
        before="        if held is None or held != self._applied:",
        after="        if held is not None and held != self._applied:",
        named=(
            "tests/core/test_coherence_proof.py::test_a_lost_id_of_the_last_message_empties_l1",
        ),
        cells=("kill_redis",),
        simulated=(
            Edit(
                _BUS,
                before="        if last is None or last != known or not same:",
                after="        if (last is not None and last != known) or not same:",
            ),
        ),
        note=_MODEL,
    ),
    Mutation(
        name="quarantine",
        safeguard="A server that was replaced is not believed until all may have told it again.",
        guards="G9",
        file=_FINDER,
        before="return deadline > 0 and self._clock.monotonic() < deadline",
        after="return False",
        named=(
            "tests/core/test_coherence_proof.py::test_a_server_that_was_replaced_is_not_believed_at_once",
        ),
        cells=(
            "old_snapshot",
            "failover",
        ),
    ),
    Mutation(
        name="replay",
        safeguard="A server that was replaced is told recent invalidations again.",
        guards="G9",
        file="async_tiercache/_recovery.py",
        before="        for record in self._ledger.recent(now):",
        after="        for record in self._ledger.recent(now)[:0]:",
        named=(
            "tests/core/test_coherence_proof.py::test_a_server_that_lost_an_invalidation_is_told_again",
        ),
        cells=(
            "old_snapshot",
            "failover",
        ),
    ),
    Mutation(
        name="gap-empties",
        safeguard="When messages may have been missed, nothing that is held or loaded counts.",
        guards="G3",
        file="async_tiercache/_bus.py",
        before="        self.gaps += 1\n        self._ledger.lapse()",
        after="        self.gaps += 1",
        named=(
            "tests/core/test_coherence_proof.py::test_a_cut_that_missed_a_message_empties_l1",
            "tests/core/test_coherence_proof.py::test_a_load_that_was_under_way_at_a_gap_is_not_kept",
        ),
        cells=("client_kill",),
    ),
)
"""Tags, blocks, nesting and the bus."""
