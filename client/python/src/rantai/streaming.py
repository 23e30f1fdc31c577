"""A result in parts, on the node's side: credit, and parts that are kept until the caller has them."""

from __future__ import annotations

import asyncio
import collections
import functools
import threading
import time
from typing import Callable, Optional

from .loop import Loop
from .wire.reply import Reply
from .wire.request import LARGEST_CREDIT

#: Bytes that a part counts for beside its payload.
OVERHEAD = 128
#: Largest parts in bytes, unless they are of one item: of the first, and of all.
FIRST_PART, LARGEST_PART = 1 << 10, 16 << 10
#: Largest item in bytes: what else is in a packet of 1 MiB has room.
LARGEST_ITEM = (1 << 20) - (4 << 10)
#: Seconds between two times that parts are sent again.
RESEND_PAUSE = 0.25


class Streaming:
    """One stream.

    `put` and `put_async` are for the thread or task that makes the items, all else is for the loop's thread.
    """

    def __init__(self, loop: Loop, publish: Callable[[Reply], None], credit: int, until: float) -> None:
        self._loop = loop
        self._publish = publish
        self._lock = threading.Condition()
        self._wakes: list[Callable[[], None]] = []
        self._buffer: collections.deque[bytes] = collections.deque()
        self._buffered = 0
        self._flushing = False
        self._credit = min(credit, LARGEST_CREDIT)
        self._sent = 0
        self._items = 0
        self._part = FIRST_PART
        self._closed = False
        self._kept: collections.deque[tuple[int, int, Reply]] = collections.deque()
        self._resent = 0.0
        self._end: Optional[Reply] = None
        self._finish: Optional[Callable[[int], Reply]] = None
        #: Time at which the stream ends unless the caller asks for more.
        self.until = until
        self.has_begun = False

    def put(self, item: bytes) -> bool:
        """Adds an item, and waits while the caller takes none; returns False where the stream is over."""
        with self._lock:
            while not self._closed and not self._has_room():
                self._lock.wait()
            return self._add(item)

    async def put_async(self, item: bytes) -> bool:
        """Adds an item, and waits while the caller takes none; returns False where the stream is over."""
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if self._closed or self._has_room():
                    return self._add(item)
                event = asyncio.Event()
                self._wakes.append(functools.partial(_set_event, loop, event))
            await event.wait()

    def _has_room(self) -> bool:
        return self._sent + self._buffered + OVERHEAD < self._credit

    def _add(self, item: bytes) -> bool:
        if self._closed:
            return False
        self._buffer.append(item)
        self._buffered += len(item) + 1
        if not self._flushing:
            self._flushing = True
            self._loop.post(self.flush)
        return True

    def flush(self) -> None:
        """Sends the items that are there, as far as the caller takes them."""
        while True:
            with self._lock:
                self._flushing = False
                part = self._take() if not self._closed else []
                drained = not self._buffer
            if not part:
                break
            self._send(part)
        if drained and self._finish is not None:
            finish, self._finish = self._finish, None
            self._finish_now(finish)

    def begin(self) -> None:
        """Says that the stream has begun, by an empty part."""
        if not self.has_begun:
            self._send([])

    def _take(self) -> list[bytes]:
        """Takes the items of the next part."""
        part: list[bytes] = []
        size = 2
        while self._buffer and (not part or size + len(self._buffer[0]) < self._part):
            if self._sent >= self._credit:
                break
            item = self._buffer.popleft()
            part.append(item)
            size += len(item) + 1
            self._buffered -= len(item) + 1
        return part

    def _send(self, part: list[bytes]) -> None:
        payload = b"[" + b",".join(part) + b"]"
        reply = Reply(payload, "ok", further=[("from", str(self._items)), ("more", "1")])
        with self._lock:
            self._sent += len(payload) + OVERHEAD
        if part:
            self._kept.append((self._items, len(part), reply))
        self._items += len(part)
        self._part = min(2 * self._part, LARGEST_PART)
        self.has_begun = True
        self._publish(reply)

    def finish(self, reply: Callable[[int], Reply]) -> None:
        """Ends the stream, when all of its items are sent; `reply` makes the last reply from the number of items."""
        if self._end is None and not self._closed:
            self._finish = reply
            self.flush()

    def abort(self, reply: Callable[[int], Reply]) -> None:
        """Ends the stream now; items that were not sent are dropped."""
        if self._end is None:
            self.close()
            self._finish_now(reply)

    def _finish_now(self, reply: Callable[[int], Reply]) -> None:
        self._end = reply(self._items)
        self.close()
        self._publish(self._end)

    def close(self) -> None:
        """Takes no more items: whoever makes them is told."""
        with self._lock:
            self._closed = True
            self._buffer.clear()
            self._buffered = 0
            self._lock.notify_all()
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

    @property
    def is_over(self) -> bool:
        """Whether the last reply was sent, or there will be none."""
        return self._closed

    def more(self, taken: int, credit: int, again: bool, until: float) -> None:
        """The caller has taken items, and takes others."""
        self.until = max(self.until, until)
        while self._kept and self._kept[0][0] + self._kept[0][1] <= taken:
            self._kept.popleft()
        with self._lock:
            self._credit = max(self._credit, min(credit, self._sent + LARGEST_CREDIT))
            self._lock.notify_all()
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()
        if again:
            self.send_again()
        self.flush()

    def send_again(self) -> None:
        """Sends the parts again that the caller has not taken, and the end."""
        now = time.monotonic()
        if now - self._resent < RESEND_PAUSE:
            self._loop.call_later(RESEND_PAUSE, self._resend_later, self._resent)
            return
        self._resent = now
        for _, _, reply in list(self._kept):
            self._publish(reply)
        if self._end is not None:
            self._publish(self._end)

    def _resend_later(self, resent: float) -> None:
        if self._resent == resent:
            self.send_again()

    def kept_bytes(self) -> int:
        """Returns the bytes of parts that are kept."""
        return sum(len(reply.payload) + OVERHEAD for _, _, reply in self._kept)


def _set_event(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(event.set)
    except RuntimeError:
        # The loop has ended, and its tasks with it.
        pass
