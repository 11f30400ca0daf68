"""Safeguards of what gets into L2, and of what this process keeps and hands out."""

from typing import Final

from tests.mutations.mutation import Edit, Mutation

_SERVER: Final = "async_tiercache/testing/_simulated_server.py"
_SCRIPTS: Final = "async_tiercache/backends/redis/scripts.py"
_FILLER: Final = "async_tiercache/_filler.py"
_TIERS: Final = "async_tiercache/_tiers.py"
_INVALIDATOR: Final = "async_tiercache/_invalidator.py"
_LEDGER: Final = "async_tiercache/_ledger.py"
_WRITER: Final = "async_tiercache/_writer.py"
_PILOT: Final = "async_tiercache/_pilot.py"

FENCES: Final = (
    Mutation(
        name="fence",
        safeguard="A frame is stored only where its fence still stands.",
        guards="G1",
        file=_SCRIPTS,
        before="if held(KEYS[1], ARGV[1]) ~= ARGV[1] or not is_marked() then",
        after="if not is_marked() then",
        named=(
            "tests/core/test_invalidation.py::test_a_load_overtaken_by_another_process_is_refused_by_l2",
            "tests/core/test_coherence_late.py::test_a_commit_that_is_carried_out_late_stores_nothing",
        ),
        cells=("none",),
        simulated=(
            Edit(
                _SERVER,
                before="        if not self._holds(key, terms):\n            self._wake(key)",
                after=(
                    '        if terms.mark is not None and self.get("mark", key) != terms.mark:\n'
                    "            self._wake(key)"
                ),
            ),
        ),
    ),
    Mutation(
        name="mark",
        safeguard="A refresh stores nothing once its mark is gone.",
        guards="G1",
        file=_SCRIPTS,
        before="if held(KEYS[1], ARGV[1]) ~= ARGV[1] or not is_marked() then",
        after="if held(KEYS[1], ARGV[1]) ~= ARGV[1] then",
        named=(
            "tests/core/test_soft.py::test_a_refresh_from_before_a_hard_one_is_not_stored_where_a_soft_one_ran_twice",
        ),
        simulated=(
            Edit(
                _SERVER,
                before='        marked = terms.mark is None or self.get("mark", key) == terms.mark',
                after="        marked = True",
            ),
            Edit(
                _SERVER,
                before='            del self.held["mark", key]',
                after='            self.held.pop(("mark", key), None)',
            ),
        ),
    ),
    Mutation(
        name="whole-lease",
        safeguard="A lease is compared whole, so that nobody stores by another's.",
        guards="G1",
        file=_SCRIPTS,
        before="{LEASE_BYTES} then return redis.call('GET', name) end",
        after="{LEASE_BYTES} then return fence end",
        named=(
            "tests/core/test_safeguards.py::test_a_load_does_not_store_by_the_lease_of_a_later_one",
        ),
        cells=("none",),
        simulated=(
            Edit(
                _SERVER,
                before="            return raw == fence",
                after="            return is_lease(raw)",
            ),
        ),
    ),
    Mutation(
        name="entry-id",
        safeguard="A refresh replaces only the entry that it has seen, by its id.",
        guards="G1",
        file=_SCRIPTS,
        before="return redis.call('GETRANGE', name, {ENTRY_ID_OFFSET}, {ENTRY_ID_OFFSET + 15})",
        after="return fence",
        named=(
            "tests/core/test_safeguards.py::test_a_refresh_replaces_no_entry_that_it_has_not_seen",
        ),
        cells=(
            "none",
            "oom_allkeys",
        ),
        simulated=(
            Edit(
                _SERVER,
                before=(
                    "        return raw[ENTRY_ID_OFFSET : ENTRY_ID_OFFSET + len(fence)] == fence"
                ),
                after="        return True",
            ),
        ),
    ),
    Mutation(
        name="stamp-id",
        safeguard="A renewal prolongs only the entry that it has seen, by its id.",
        guards="G1, G4",
        file=_SCRIPTS,
        before=(
            "if redis.call('GETRANGE', KEYS[1], {ENTRY_ID_OFFSET}, {ENTRY_ID_OFFSET + 15})"
            " ~= ARGV[1] then"
        ),
        after="if false then",
        named=(
            "tests/core/test_safeguards.py::test_a_renewal_prolongs_no_entry_that_it_has_not_seen",
        ),
        simulated=(
            Edit(
                _SERVER,
                before="        if raw is None or not self._holds(key, terms):",
                after=(
                    '        if raw is None or (terms.mark and self.get("mark", key) != '
                    "terms.mark):"
                ),
            ),
        ),
    ),
    Mutation(
        name="seize",
        safeguard="A write takes away what its key holds, other loads' leases included.",
        guards="G1",
        file=_SCRIPTS,
        before="if is_block(KEYS[1]) then return 0 end\nredis.call('SET'",
        after=(
            "if is_block(KEYS[1]) then return 0 end\n"
            "if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end\nredis.call('SET'"
        ),
        named=(
            "tests/core/test_writes.py::test_a_load_in_progress_elsewhere_loses_against_a_write",
            "tests/core/test_writes.py::test_the_last_of_two_writers_wins",
        ),
        simulated=(
            Edit(
                _SERVER,
                before=(
                    "            return False\n"
                    '        self._put("key", key, token, seconds)\n'
                    "        return True"
                ),
                after=(
                    "            return False\n"
                    '        if self.get("key", key) is None:\n'
                    '            self._put("key", key, token, seconds)\n'
                    "        return True"
                ),
            ),
        ),
    ),
    Mutation(
        name="refused-write",
        safeguard="A write whose store was refused invalidates the key instead.",
        guards="G1, G2",
        file=_WRITER,
        before="            writing.report = await self._invalidator.invalidate((key,))",
        after="            writing.report = self._invalidator.confirmed()",
        named=("tests/core/test_writes.py::test_a_value_that_came_between_is_removed",),
    ),
    Mutation(
        name="commit-tell",
        safeguard="Other processes are told of a write in the turn that stores it.",
        guards="G3",
        file=_WRITER,
        before="await self._tiers.commit(fence, family, entry, tell=tell)",
        after="await self._tiers.commit(fence, family, entry)",
        named=("tests/core/test_safeguards.py::test_other_processes_are_told_of_a_write",),
    ),
    Mutation(
        name="key-digest",
        safeguard="A frame carries the digest of its key, so that no other key's is served.",
        guards="G1",
        file="async_tiercache/codecs/frame.py",
        before="    if digest != key_digest:",
        after="    if digest != digest:",
        named=("tests/core/test_leases.py::test_the_frame_of_another_key_is_replaced",),
    ),
    Mutation(
        name="l1-after-refusal",
        safeguard="What L2 has refused is not kept in L1 either.",
        guards="G3",
        file=_FILLER,
        before='        if stored == "overtaken":\n            # Its callers',
        after='        if stored == "never":\n            # Its callers',
        named=(
            "tests/core/test_safeguards.py::test_what_l2_has_refused_is_not_kept_while_the_message_is_late",
        ),
        cells=(
            "none",
            "proxy_delay",
        ),
    ),
    Mutation(
        name="generation",
        safeguard="L1 keeps nothing whose key or tags were invalidated since its making began.",
        guards="G2, G3",
        file=_TIERS,
        before="if not self._ledger.holds(basis) or not basis.sound:",
        after="if not basis.sound:",
        named=(
            "tests/core/test_coherence_schedules.py::test_a_commit_that_was_followed_by_an_invalidation_elsewhere_is_not_kept_in_l1",
            "tests/core/test_coherence_schedules.py::test_a_read_of_l2_that_was_followed_by_an_invalidation_elsewhere_is_not_believed",
        ),
        cells=("none",),
    ),
    Mutation(
        name="tag-generations",
        safeguard="Invalidations of tags since then count for that, too.",
        guards="G2, G3",
        file=_LEDGER,
        before=(
            " == basis.generation and (\n"
            "            basis.turn == self._turn or self._unmoved(basis)\n        )"
        ),
        after=" == basis.generation",
        named=(
            "tests/core/test_coherence_parts.py::test_a_tag_invalidated_between_the_part_and_the_end_of_the_page_ends_it",
            "tests/core/test_coherence_proof.py::test_a_load_that_was_under_way_at_a_gap_is_not_kept",
        ),
    ),
    Mutation(
        name="forget-before",
        safeguard="An invalidation forgets here before it tells L2.",
        guards="G2, G5",
        file=_INVALIDATOR,
        before="            self._forget(record)\n            if self._remote is not None:",
        after="            if self._remote is not None:",
        named=(
            "tests/core/test_safeguards.py::test_what_is_invalidated_is_forgotten_before_l2_has_been_told",
        ),
        cells=("sigstop_redis",),
    ),
    Mutation(
        name="detach",
        safeguard="An invalidation detaches the load in progress: later readers do not join it.",
        guards="G2, G5",
        file=_TIERS,
        before="            self.detach(key)\n",
        after="",
        named=(
            "tests/core/test_invalidation.py::test_a_reader_after_an_invalidation_does_not_join_an_older_load",
            "tests/core/test_coherence_schedules.py::test_a_reader_does_not_join_a_load_older_than_a_message",
        ),
        cells=("none",),
    ),
    Mutation(
        name="may-join-tags",
        safeguard="No reader joins a load that began before an invalidation of its tags.",
        guards="G2, G5",
        file=_LEDGER,
        before="return basis.turn == self._turn or (not basis.open and self._unmoved(basis))",
        after="return True",
        named=(
            "tests/core/test_coherence_schedules.py::test_a_reader_does_not_join_a_load_older_than_a_message_about_its_tag",
            "tests/core/test_tags_late.py::test_a_reader_after_an_invalidation_joins_no_load_that_began_before",
        ),
    ),
    Mutation(
        name="join-bound",
        safeguard="Without a proof no reader joins a load that began longer ago than the bound.",
        guards="G3, G5",
        file="async_tiercache/_view.py",
        before="(unproven and age >= ledger.join_seconds)",
        after="False",
        named=(
            "tests/core/test_safeguards.py::test_without_a_proof_no_load_is_joined_that_is_older_than_the_bound",
        ),
        cells=(
            "proxy_halfopen",
            "sigstop_worker",
        ),
    ),
    Mutation(
        name="refresh-overtakes",
        safeguard="A `refresh` overtakes the loads in progress, so that none is kept after it.",
        guards="G4",
        file=_PILOT,
        before="            self._ledger.overtake(key)\n            self._tiers.detach",
        after="            self._tiers.detach",
        named=(
            "tests/core/test_nothing_older.py::test_a_refresh_is_not_followed_by_what_an_earlier_load_brings",
        ),
    ),
    Mutation(
        name="replaced-load",
        safeguard="A load whose place another one takes, for other tags, is not kept.",
        guards="G4",
        file=_PILOT,
        before="if forced or self._flights.find(key) is not None:",
        after="if forced:",
        named=(
            "tests/core/test_tags.py::test_a_load_without_the_tag_is_not_joined_where_it_is_declared",
            "tests/core/test_tags.py::test_a_batch_does_not_join_a_load_without_its_tag",
            "tests/core/test_nothing_older.py::test_a_copy_is_not_replaced_by_what_an_earlier_load_has_brought",
        ),
    ),
    Mutation(
        name="detached-load",
        safeguard="Nor is one that is not joined for want of a proof, or for a part of it.",
        guards="G4",
        file="async_tiercache/_view.py",
        before="ledger.overtake(key)  # It must",
        after="pass  # It must",
        named=(
            "tests/core/test_safeguards.py::test_without_a_proof_no_load_is_joined_that_is_older_than_the_bound",
        ),
    ),
    Mutation(
        name="refresh-loaded",
        safeguard="A `refresh` shares no load that has begun before it.",
        guards="freshness",
        file="async_tiercache/_view.py",
        before="            or flight.operation is not None\n",
        after="",
        named=(
            "tests/core/test_refreshes.py::test_refreshes_share_the_value_of_a_load_that_begins_after_all_of_them",
        ),
        note="The simulator is promised nothing about a refresh.",
    ),
    Mutation(
        name="refresh-anew",
        safeguard="Nor, with the one that it shares, what others have begun to load before it.",
        guards="freshness",
        file="async_tiercache/_view.py",
        before="        flight.began_at = self._tiers.now()\n",
        after="",
        named=(
            "tests/core/test_refreshes.py::test_a_refresh_that_shares_another_has_nothing_that_was_loaded_before_it",
        ),
        note="The simulator is promised nothing about a refresh.",
    ),
    Mutation(
        name="refresh-drops",
        safeguard="A `refresh` removes the copy in L1 that it replaces.",
        guards="G4",
        file=_FILLER,
        before="self._tiers.drop_older(flight.key, flight.load_began_at)\n        if fence is None",
        after="pass\n        if fence is None",
        named=(
            "tests/core/test_nothing_older.py::test_a_refresh_is_not_followed_by_the_copy_that_it_replaces",
        ),
    ),
    Mutation(
        name="contradicted-copy",
        safeguard="A copy in L1 that L2 contradicts is removed and not offered any more.",
        guards="G4",
        file=_PILOT,
        before="if kept is not None and contradicted:",
        after="if kept is not None and False:",
        named=(
            "tests/core/test_safeguards.py::test_a_copy_that_l2_contradicts_is_offered_to_nobody",
        ),
        cells=(
            "none",
            "loader_errors",
        ),
    ),
    Mutation(
        name="overtaken-shown",
        safeguard="Of a load that was overtaken and the one in its place only one is shown.",
        guards="G4",
        file="async_tiercache/_view.py",
        before="        if not overtaken:\n            return outcome",
        after="        if True:\n            return outcome",
        named=(
            "tests/core/test_overtaken.py::test_its_reader_gets_what_is_loaded_in_its_place",
            "tests/core/test_overtaken.py::test_its_reader_gets_what_was_loaded_in_its_place",
        ),
        cells=("none",),
    ),
    Mutation(
        name="overtaken-again",
        safeguard="Where the overtaken one is shown, what is loaded in its place is left behind.",
        guards="G4",
        file="async_tiercache/_view.py",
        before="            self._tiers.supersede(key)",
        after="            pass",
        named=(
            "tests/core/test_overtaken.py::test_its_reader_waits_for_one_other_load_at_most",
            "tests/core/test_overtaken.py::test_a_refresh_shows_its_own_value_and_nothing_older_follows",
        ),
        cells=("none",),
    ),
    Mutation(
        name="latest",
        safeguard="What was shown is compared with times that may be behind the server's.",
        guards="G4",
        file=_TIERS,
        before="            self._ledger.raise_floor(key, self.latest())",
        after="            self._ledger.raise_floor(key, self.now())",
        named=(
            "tests/core/test_overtaken.py::test_what_another_process_has_loaded_before_is_older_though_this_one_is_behind",
        ),
        cells=("proxy_delay",),
    ),
    Mutation(
        name="soft-doubt",
        safeguard="What was loaded around L2 makes a soft invalidation that is pending a hard one.",
        guards="G4",
        file=_LEDGER,
        before="if key in self._pending and key not in self._soft:",
        after="if key in self._pending:",
        named=(
            "tests/core/test_coherence_soft.py::test_what_was_loaded_around_l2_is_not_followed_by_what_is_softened",
        ),
    ),
    Mutation(
        name="unordered-copy",
        safeguard="Where an overtaken load is shown, no copy stays that may be older than it.",
        guards="G4",
        file="async_tiercache/_view.py",
        before="            if slot is not None:\n                # It may be older",
        after="            if False:\n                # It may be older",
        named=(
            "tests/core/test_overtaken.py::test_a_copy_that_is_not_newer_for_certain_is_dropped",
        ),
    ),
    Mutation(
        name="soft-over-hard",
        safeguard="A soft invalidation of what is pending is a hard one.",
        guards="G1, G2",
        file=_INVALIDATOR,
        before="            soft = None\n",
        after="            pass\n",
        named=(
            "tests/core/test_coherence_soft.py::test_a_soft_invalidation_does_not_confirm_a_hard_one",
        ),
    ),
    Mutation(
        name="doubt-at-once",
        safeguard="After a load around L2 the key is in doubt before anybody has the value.",
        guards="G4",
        file=_FILLER,
        before="        if doubt:\n            # Its callers",
        after="        if False:\n            # Its callers",
        named=(
            "tests/core/test_coherence_soft.py::test_what_names_its_tags_is_not_followed_by_what_is_softened",
        ),
    ),
    Mutation(
        name="refresh-kept",
        safeguard="What a refresh gets from another process's takes the place of the copy in L1.",
        guards="G4",
        file="async_tiercache/_pilot.py",
        before="        self._tiers.keep(_basis_of(flight, entry), family, entry, l1_ttl=l1_ttl,"
        " early=early)\n        return answer",
        after="        if not flight.forced:\n"
        "            self._tiers.keep(_basis_of(flight, entry), family, entry, l1_ttl=l1_ttl,"
        " early=early)\n        return answer",
        named=(
            "tests/core/test_leases.py::test_a_refresh_that_another_process_has_made_replaces_the_copy",
        ),
    ),
    Mutation(
        name="shown-floor",
        safeguard="Where an overtaken load is shown, nothing older of L2 follows from then on.",
        guards="G4",
        file="async_tiercache/_view.py",
        before="                self._tiers.note_shown(flight)\n",
        after="                pass\n",
        named=(
            "tests/core/test_overtaken.py::test_nothing_older_follows_before_l2_has_refused_it",
        ),
    ),
    Mutation(
        name="storing-floor",
        safeguard="Nor where one is overtaken whose callers have its value.",
        guards="G4",
        file="async_tiercache/_tiers.py",
        before="            if flight.storing:\n",
        after="            if False:\n",
        named=(
            "tests/core/test_overtaken.py::test_nothing_older_follows_when_it_is_overtaken_on_its_way_into_l2",
        ),
    ),
    Mutation(
        name="replaced-storing",
        safeguard="Nor where another takes the place of one whose callers have its value.",
        guards="G4",
        file="async_tiercache/_pilot.py",
        before="            self._tiers.detach(key)\n",
        after="",
        named=(
            "tests/core/test_overtaken.py::test_nothing_older_follows_when_a_refresh_takes_its_place_on_its_way_into_l2",
        ),
    ),
    Mutation(
        name="lost-fence",
        safeguard="A load that has lost its fence is overtaken.",
        guards="G4",
        file="async_tiercache/_tiers.py",
        before="            self._ledger.overtake(flight.key)\n",
        after="            pass\n",
        named=(
            "tests/core/test_overtaken.py::test_nothing_older_follows_a_load_that_has_lost_its_lease",
        ),
    ),
    Mutation(
        name="overtaken-floor",
        safeguard="What was shown and is kept nowhere is not followed by an older entry of L2.",
        guards="G4",
        file="async_tiercache/_judge.py",
        before="if self._ledger.is_below_floor(basis.key, frame.header.created_at):",
        after="if False:",
        named=(
            "tests/core/test_safeguards.py::test_what_was_shown_and_refused_is_followed_by_nothing_older",
        ),
        cells=(
            "none",
            "oom_allkeys",
        ),
    ),
    Mutation(
        name="release",
        safeguard="A load that has failed gives its lease back.",
        guards="G8",
        file=_FILLER,
        before="                self._fences.release_soon(fence)\n            self._notify(",
        after="                pass\n            self._notify(",
        named=(
            "tests/core/test_leases.py::test_a_failed_load_gives_its_lease_back",
            "tests/core/test_leases.py::test_a_load_that_failed_elsewhere_is_taken_over",
        ),
    ),
    Mutation(
        name="renew",
        safeguard="A lease is renewed while its load runs.",
        guards="G6",
        file="async_tiercache/_fence.py",
        before="            LEASE_SECONDS / 3, self._renew,",
        after="            LEASE_SECONDS * 1_000_000, self._renew,",
        named=("tests/core/test_leases.py::test_a_lease_is_renewed_while_its_loader_runs",),
        cells=("stampede",),
    ),
    Mutation(
        name="pending-keys",
        safeguard="L2 is not believed about a key while it has yet to confirm its invalidation.",
        guards="G2",
        file=_LEDGER,
        before="        if key in self._pending:\n            return False\n        if self._tags",
        after="        if self._tags",
        named=(
            "tests/core/test_invalidation.py::test_a_process_reads_around_l2_while_its_delete_is_under_way",
        ),
        cells=("sigstop_redis",),
    ),
    Mutation(
        name="doubt",
        safeguard="After a load around L2 the key is in doubt until L2 has removed what it holds.",
        guards="G4",
        file=_FILLER,
        before="        if doubt:\n            self._doubt(flight.key)\n",
        after="",
        named=(
            "tests/core/test_invalidation.py::test_what_was_loaded_around_l2_is_not_followed_by_what_l2_held",
        ),
        cells=(
            "sigstop_redis",
            "proxy_drop",
        ),
    ),
    Mutation(
        name="after-commit",
        safeguard="`after_commit` sends nothing before its block has ended.",
        guards="G1",
        file="async_tiercache/_commits.py",
        before=(
            "        scope = self.scope\n        if scope is None:\n"
            "            return await self._invalidator.invalidate("
        ),
        after=(
            "        scope = self.scope\n        if True:\n"
            "            return await self._invalidator.invalidate("
        ),
        named=("tests/core/test_commits.py::test_invalidations_are_sent_at_the_end",),
    ),
    Mutation(
        name="tenants",
        safeguard="The keys and tags of a tenant begin with its name.",
        guards="tenants",
        file="async_tiercache/_tenancy.py",
        before='return f"{_SIGN}{escape(tenant)}{_SIGN}"',
        after='return ""',
        named=(
            "tests/core/test_tenants_in_batches.py::test_refreshes_of_two_tenants_are_not_gathered_into_one_load",
        ),
        note="the bench has no tenants",
    ),
)
"""Stores by fences, L1, flights, and the paths of invalidations and writes."""
