"""What `rpc.stats` tells of an object. No I/O."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any, Optional

from .faults import Fault

#: Calls of each method whose times are kept.
_TIMES = 2_048


@dataclass
class _Counts:
    calls: int = 0
    errors: int = 0
    last_error: Optional[dict[str, Any]] = None
    in_flight: int = 0
    #: In microseconds.
    times: collections.deque[int] = field(default_factory=lambda: collections.deque(maxlen=_TIMES))

    def quantile(self, q: float) -> int:
        times = sorted(self.times)
        return times[min(len(times) - 1, int(q * len(times)))] if times else 0


class Stats:
    """Counts of one object."""

    def __init__(self) -> None:
        self._methods: dict[str, _Counts] = {}
        self._refused: dict[str, int] = {}

    def began(self, method: str) -> None:
        """A call has started."""
        counts = self._methods.setdefault(method, _Counts())
        counts.calls += 1
        counts.in_flight += 1

    def ended(self, method: str, seconds: float, fault: Optional[Fault]) -> None:
        """A call has ended."""
        counts = self._methods[method]
        counts.in_flight -= 1
        counts.times.append(round(seconds * 1_000_000))
        if fault is not None:
            counts.errors += 1
            counts.last_error = {"code": fault.code, "message": fault.message}

    def refused(self, kind: str) -> None:
        """A request was refused or ignored."""
        self._refused[kind] = self._refused.get(kind, 0) + 1

    def report(self) -> dict[str, Any]:
        """Returns the counts."""
        methods = {
            name: {
                "calls": counts.calls,
                "errors": counts.errors,
                "last_error": counts.last_error,
                "in_flight": counts.in_flight,
                "p50_us": counts.quantile(0.5),
                "p99_us": counts.quantile(0.99),
            }
            for name, counts in sorted(self._methods.items())
        }
        return {"methods": methods, "refused": dict(sorted(self._refused.items()))}
