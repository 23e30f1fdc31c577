"""One thread that owns all state of a connection: sockets, timers and what other threads ask of it."""

from __future__ import annotations

import collections
import heapq
import itertools
import logging
import selectors
import socket
import threading
import time
from typing import Any, Callable, Optional

logger = logging.getLogger("rantai")

#: Longest wait for events, in seconds.
_LONGEST_WAIT = 60.0


class Timer:
    """A function that is called at a time, unless it is cancelled before."""

    __slots__ = ("args", "function", "when")

    def __init__(self, when: float, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.when = when
        self.function: Optional[Callable[..., None]] = function
        self.args = args

    def cancel(self) -> None:
        """Cancels the timer. In the loop's thread only."""
        self.function = None
        self.args = ()


class Loop:
    """Event loop in a thread of its own.

    `post` may be called from any thread; everything else belongs to the functions that the loop calls.
    """

    def __init__(self, name: str) -> None:
        self._posted: collections.deque[tuple[Callable[..., None], tuple[Any, ...]]] = collections.deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._asleep = False
        self._stopped = False
        #: Called before every wait: for what is to be written.
        self.before_wait: Optional[Callable[[], None]] = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self.thread.start()

    def post(self, function: Callable[..., None], *args: Any) -> None:
        """Has the loop call a function soon; calls of one thread keep their order."""
        self._posted.append((function, args))
        # The loop looks for posted functions after it has said that it is asleep.
        if self._asleep:
            self._asleep = False
            try:
                self._wake_out.send(b"\0")
            except OSError:
                # Full: the loop wakes up anyway. Closed: it has ended.
                pass

    def stop(self) -> None:
        """Ends the loop after what was posted before. May be called from any thread."""
        self.post(self._stop)

    def call_at(self, when: float, function: Callable[..., None], *args: Any) -> Timer:
        """Calls a function at a time of `time.monotonic`."""
        timer = Timer(when, function, args)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(self, delay: float, function: Callable[..., None], *args: Any) -> Timer:
        """Calls a function after `delay` seconds."""
        return self.call_at(time.monotonic() + delay, function, *args)

    def watch(self, sock: Any, handler: Callable[[int], None], writable: bool = False) -> None:
        """Calls `handler` with the events of a socket, which may be watched already."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        try:
            key = self._selector.get_key(sock)
        except (KeyError, ValueError):
            self._selector.register(sock, events, handler)
            return
        if key.events != events:
            self._selector.modify(sock, events, handler)

    def forget(self, sock: Any) -> None:
        """Watches a socket no longer."""
        try:
            self._selector.unregister(sock)
        except (KeyError, ValueError, OSError):
            pass

    def is_current(self) -> bool:
        """Returns whether the calling thread is the loop's."""
        return threading.current_thread() is self.thread

    def _stop(self) -> None:
        self._stopped = True

    def _guard(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        try:
            function(*args)
        except Exception:
            logger.exception("an error in the connection's thread")

    def _run(self) -> None:
        while not self._stopped:
            self._run_posted()
            self._run_timers()
            if self.before_wait is not None:
                self._guard(self.before_wait, ())
            self._wait()
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def _run_posted(self) -> None:
        # Only as many as there are: they may post others.
        for _ in range(len(self._posted)):
            function, args = self._posted.popleft()
            self._guard(function, args)

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            function, args = timer.function, timer.args
            # A timer that has fired is over, as a cancelled one.
            timer.cancel()
            if function is not None:
                self._guard(function, args)
        # Cancelled timers of calls that were answered are most of the heap.
        if len(self._timers) > 1024 and self._timers[0][2].function is None:
            self._timers = [entry for entry in self._timers if entry[2].function is not None]
            heapq.heapify(self._timers)

    def _wait(self) -> None:
        timeout = _LONGEST_WAIT
        if self._timers:
            timeout = max(0.0, min(timeout, self._timers[0][0] - time.monotonic()))
        self._asleep = True
        if self._posted or self._stopped:
            timeout = 0.0
        ready = self._selector.select(timeout)
        self._asleep = False
        for key, events in ready:
            if key.data is None:
                try:
                    self._wake_in.recv(4096)
                except BlockingIOError:
                    pass
            else:
                self._guard(key.data, (events,))
