"""Looks into the registry, for clients."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from .caller import Caller
from .view import View

#: Seconds between two looks for an object that is waited for.
_AGAIN = 0.05


def read_registry(caller: Caller) -> concurrent.futures.Future[View]:
    """Reads the whole registry; returns a future of its view. May be called from any thread."""
    future: concurrent.futures.Future[View] = concurrent.futures.Future()
    caller.bus.loop.post(caller.census.read, future.set_result)
    return future


def served(view: View) -> list[str]:
    """Returns the names of the objects that are served, in order."""
    return [name for name in view.objects() if view.is_served(name)]


class ServedWait:
    """Waits until an object is served. `begin` and `end` may be called from any thread."""

    def __init__(self, caller: Caller, name: str) -> None:
        self._caller = caller
        self._name = name
        self._timer: Any = None
        self.future: concurrent.futures.Future[None] = concurrent.futures.Future()

    def begin(self) -> None:
        """Looks into the registry, again and again."""
        self._caller.bus.loop.post(self._read)

    def end(self) -> None:
        """Looks no more."""
        self._caller.bus.loop.post(self._end)

    def _read(self) -> None:
        if not self.future.done():
            self._caller.census.read(self._look)

    def _look(self, view: View) -> None:
        if self.future.done():
            return
        if view.is_served(self._name):
            self.future.set_result(None)
        else:
            self._timer = self._caller.bus.loop.call_later(_AGAIN, self._read)

    def _end(self) -> None:
        if not self.future.done():
            self.future.cancel()
        if self._timer is not None:
            self._timer.cancel()
