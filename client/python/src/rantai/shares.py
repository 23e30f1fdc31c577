"""Fair shares of a bounded table. No I/O.

A caller gets a place only while it holds fewer than twice as many as are free.
"""

from __future__ import annotations

from typing import Any, Optional

#: Tables of fewer places are not shared.
SMALLEST_SHARED = 4
#: Callers that are named in a report.
_TOP = 5


class Shares:
    """Places of one table, by caller: ("user", name), ("client", id), or ("", "") for the others together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.refused = 0
        self._held: dict[tuple[str, str], int] = {}

    def take(self, caller: tuple[str, str]) -> bool:
        """Takes a place; returns False where the caller is over its share."""
        held, free = self._held.get(caller, 0), self.limit - self.taken
        share = self.limit if self.limit < SMALLEST_SHARED else 2 * free
        if free <= 0 or held >= share:
            self.refused += 1
            return False
        self._held[caller] = held + 1
        self.taken += 1
        return True

    def give_back(self, caller: tuple[str, str]) -> None:
        """Gives a place back."""
        held = self._held.get(caller, 0) - 1
        if held > 0:
            self._held[caller] = held
        else:
            self._held.pop(caller, None)
        self.taken -= 1

    def report(self, table: str, reader: Optional[str]) -> dict[str, Any]:
        """Returns how full the table is; users other than the reader are not named."""
        most = sorted(self._held.items(), key=lambda item: -item[1])[:_TOP]
        top = []
        for (kind, name), held in most:
            shown = f'{kind} "{name}"' if kind else "callers without a reply topic of their own"
            if kind == "user" and name != reader:
                shown = "another user"
            top.append({"caller": shown, "held": held})
        return {
            "table": table,
            "limit": self.limit,
            "taken": self.taken,
            "callers": len(self._held),
            "refused": self.refused,
            "top": top,
        }
