"""Followers: readers who have what a flight brings without a task, or a wait for it, of each.

They wait as the readers of a look do. Those of a look that was left to a flight follow that; so do
those who come while it is under way.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable
from functools import partial

from async_tiercache._door import Door
from async_tiercache._family import Alias
from async_tiercache._flight import Flight
from async_tiercache._flights import Flights
from async_tiercache._ledger import Ledger
from async_tiercache._look import Home, Look, Waiter, Wanted
from async_tiercache._options import MISSING
from async_tiercache._outcome import ABANDONED, Outcome
from async_tiercache._read_log import ReadLog
from async_tiercache._view import View
from async_tiercache.abc import Clock


class Followers:
    """Those of the flights of one cache.

    Args:
        view: Says what they may join, and what they are shown.
        ledger: Says whether anything has happened to tags.
        flights: What they follow.
        log: Is told of their answers.
        clock: The clock of this process.
        door: Says whether a call may come in at once.
        admit: Lets any other through.
    """

    __slots__ = (
        "_admit",
        "_door",
        "_flights",
        "_home",
        "_ledger",
        "_listened",
        "_log",
        "_monotonic",
        "_view",
    )

    def __init__(
        self,
        *,
        view: View,
        ledger: Ledger,
        flights: Flights,
        log: ReadLog,
        clock: Clock,
        door: Door,
        admit: Callable[[], object],
    ) -> None:
        self._view = view
        self._ledger = ledger
        self._flights = flights
        self._log = log
        self._listened = log.listened
        self._monotonic = clock.monotonic
        self._door = door
        self._admit = admit
        self._home = Home()

    def begin(self, wanted: Wanted, key: str, alias: Alias | None) -> tuple[Look, Waiter] | None:
        """Let a reader follow the flight of a key; `None` if it has to see for itself.

        Args:
            wanted: What the reader wants.
            key: The key's text.
            alias: Where a compiled call path looks for the slot of the key.

        Returns:
            What it waits with, and a future of the value, or of that where there is none for it.
        """
        family = wanted.family
        flight = None if family.bound else self._view.find(key, wanted.tags, family)
        if flight is None or flight.outcome is not None or flight.offered is not None:
            # What a caller's own object loads is not for others to wait for; nor does anybody wait
            # where something is offered.
            return None
        look = self._home.by_key.get(key)
        if (
            look is None
            or look.flight is not flight
            or look.family is not family
            or not look.waiting
        ):
            look = Look.at(self._home, family, flight.basis)
            self._lead(look, flight)
        look.epoch = self._ledger.epoch
        waiter = self.join(look)
        if waiter is None:
            return None
        if alias is not None:
            look.be_found(alias)
        return look, waiter

    def join(self, look: Look) -> Waiter | None:
        """Let a call wait with others of the same key and tags; `None` if it must ask for itself.

        Args:
            look: What they wait with, a look or what follows a flight.
        """
        flight = look.flight
        if asyncio.get_running_loop() is not self._door.loop:
            self._admit()
        if flight is not None and (
            # What may be followed then may be now, if nothing has happened to any tag since.
            look.epoch is not self._ledger.epoch
            or flight.offered is not None
            or not flight.joinable
        ):
            return None
        waiter: Waiter = Future()
        look.waiters.append(waiter)
        if self._listened:
            look.note_came(waiter, self._monotonic())
        return waiter

    def follow(self, look: Look | None, flight: Flight) -> None:
        """Let the other readers of a look have what a flight brings."""
        if look is None or not look.waiting or look.flight is not None:
            return
        if self._flights.at_once(flight) is None:
            self._home.by_key[flight.key] = look
            look.epoch = self._ledger.epoch
            self._lead(look, flight)

    def forget(self) -> None:
        """Drop those who belong to a loop that is gone."""
        self._home.forget()
        self._home = Home()

    def _lead(self, look: Look, flight: Flight) -> None:
        seat = flight.wait()
        look.follow(flight, partial(self._flights.leave, flight, seat))
        seat.add_done_callback(partial(self._share, look, flight))

    def _share(self, look: Look, flight: Flight, seat: "asyncio.Future[Outcome]") -> None:
        """Give the outcome of a flight to those who follow it, if it is one for all of them."""
        look.hide()
        if self._home.by_key.get(flight.key) is look:
            del self._home.by_key[flight.key]
        if seat.cancelled():
            look.wake()
            return
        outcome: Outcome | None = seat.result()
        flight.leave(seat)
        if outcome is not ABANDONED:
            outcome = self._view.shown(flight, seat.result(), again=False)
        if outcome is None or outcome is ABANDONED or outcome.value is MISSING:
            # Each has to find another one.
            look.wake()
            return
        if look.came is None and flight.decode is None and outcome.error is None:
            value, readers = outcome.value, look.waiters
            answered = len(readers)
            look.forget()
            for reader in readers:
                try:
                    reader.set_result(value)
                except asyncio.InvalidStateError:  # It was cancelled.
                    answered -= 1
        else:
            answered = self._share_singly(look, flight, outcome)
        if answered:
            self._log.note_all(look.family, flight.key, outcome, answered)

    def _share_singly(self, look: Look, flight: Flight, outcome: Outcome) -> int:
        """Give each of them a value or an error of its own, or tell of each.

        Returns:
            How many were answered of whom nobody was told.
        """
        came, readers = look.came, look.take()
        note = partial(self._log.note, look.family, flight.key, outcome, joined=True)
        answered, each_its_own = 0, flight.decode is not None or outcome.error is not None
        value = outcome.value
        for reader in readers:
            if each_its_own:
                try:
                    value = flight.value_of(outcome, joined=True)
                except Exception as error:  # noqa: BLE001 - it is the reader's
                    reader.set_exception(error)
                    reader.exception()  # which may be cancelled before it sees that
                    continue
            reader.set_result(value)
            if came is None:
                answered += 1
            else:
                since, context = came.pop(reader)
                context.run(note, started=since)
        return answered
