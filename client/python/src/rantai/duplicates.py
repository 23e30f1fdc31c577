"""Requests that were met before, by their identity. No I/O."""

from __future__ import annotations

import collections
import hashlib
from dataclasses import dataclass
from typing import Optional, Union

from .wire.reply import Reply

#: Most calls that are remembered, running ones not counted.
REMEMBERED = 16_384
#: Most bytes of replies that are kept.
KEPT = 8 << 20
#: Largest reply that is kept, in bytes.
LARGEST = 4 << 10
#: Seconds for which a call is remembered at least.
AT_LEAST = 60.0

NEW, RUNNING, FORGOTTEN, OTHER = "new", "running", "forgotten", "other"

Identity = tuple[str, bytes, int]


@dataclass
class _Remembered:
    print: bytes
    until: float
    running: bool = True
    reply: Optional[Reply] = None


class Duplicates:
    """Remembers calls that started, until their deadlines and for at least a minute."""

    def __init__(self) -> None:
        self._calls: dict[Identity, _Remembered] = {}
        self._finished: collections.deque[tuple[Identity, _Remembered]] = collections.deque()
        self._kept = 0

    def meet(self, identity: Identity, method: str, payload: bytes, deadline: float, now: float) -> Union[str, Reply]:
        """Enters a request.

        Returns `NEW`, `RUNNING`, `FORGOTTEN`, `OTHER` (another request), or the reply of the first.
        """
        self._sweep(now)
        print_ = hashlib.blake2b(method.encode() + b"\0" + payload, digest_size=16).digest()
        known = self._calls.get(identity)
        if known is None or (not known.running and known.until <= now):
            self._calls[identity] = _Remembered(print_, max(deadline, now + AT_LEAST))
            return NEW
        if known.print != print_:
            return OTHER
        if known.running:
            return RUNNING
        return known.reply if known.reply is not None else FORGOTTEN

    def withdraw(self, identity: Identity) -> None:
        """Forgets a request that was not carried out."""
        self._calls.pop(identity, None)

    def finish(self, identity: Identity, reply: Optional[Reply], now: float) -> None:
        """Keeps the reply of a call; None where it has none that can be sent again."""
        known = self._calls.get(identity)
        if known is None or not known.running:
            return
        known.running = False
        if reply is not None and len(reply.payload) <= LARGEST:
            known.reply = reply
            self._kept += len(reply.payload)
        self._finished.append((identity, known))
        self._sweep(now)

    def _sweep(self, now: float) -> None:
        while self._finished and (
            self._finished[0][1].until <= now or len(self._finished) > REMEMBERED or self._kept > KEPT
        ):
            identity, known = self._finished.popleft()
            if known.reply is not None:
                self._kept -= len(known.reply.payload)
            if self._calls.get(identity) is known:
                del self._calls[identity]

    def __len__(self) -> int:
        return len(self._calls)
