"""Detects a second node with the same id. No I/O.

A broker closes the connection of each when the other connects, and not every broker says why.
"""

from __future__ import annotations

from typing import Optional

#: Closed connections that show another node.
CLOSED = 3
#: Seconds within which they are closed.
WITHIN = 60.0
#: Seconds after which also the node with the lower epoch ends.
PATIENCE = 180.0


class Doubles:
    """Closed connections that were followed by the state of another start."""

    def __init__(self) -> None:
        self._closed: Optional[float] = None
        self._followed: list[tuple[float, bool]] = []
        self._since: Optional[float] = None

    def closed(self, now: float) -> None:
        """The connection has ended."""
        self._closed = now

    def other_start(self, is_higher: bool) -> bool:
        """The node's own state is that of another start, whose epoch is higher or lower; returns whether to stop."""
        closed, self._closed = self._closed, None
        if closed is None:
            # An earlier start leaves such a state behind, and anybody may publish one.
            return False
        self._followed = [(at, higher) for at, higher in self._followed if closed - at < WITHIN]
        self._followed.append((closed, is_higher))
        if len(self._followed) < CLOSED:
            self._since = None
            return False
        if self._since is None:
            self._since = closed
        by_lower = sum(1 for _, higher in self._followed if not higher)
        return by_lower >= CLOSED or closed - self._since >= PATIENCE
