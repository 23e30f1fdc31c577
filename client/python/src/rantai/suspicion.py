"""Whether the registry shows that a call gets no reply. No I/O; times are those of `time.monotonic`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from .view import View
from .wire import entry
from .wire.entry import Accepted, Entry

#: Seconds after which a call without a reply is watched.
WATCH_AFTER = 0.25
#: Seconds after which a node that has a call has said so.
ACCEPT_TIMEOUT = 0.75
#: Seconds for which a lost node may come back.
GRACE = 0.4
#: The same for a node that has accepted the call.
ACCEPTED_GRACE = 0.6
#: Seconds for which an object may be served by nobody, as it changes its node.
HANDOVER = 1.5

#: Message Expiry Intervals are whole seconds.
_ROUNDING = 1.0


@dataclass(frozen=True)
class Suspicion:
    """Why a call may get no reply: `lost`, `cleared` or `restarted` (of `node`), `unserved`, `unknown`."""

    kind: str
    node: str = ""

    def patience(self, accepted: bool, quiet: float) -> float:
        """Returns for how many seconds the suspicion has to hold."""
        grace = ACCEPTED_GRACE if accepted else GRACE
        if self.kind in ("lost", "restarted"):
            return grace
        return max(grace if self.kind == "cleared" else HANDOVER, quiet)


@dataclass
class Watched:
    """The registry as far as it concerns one object."""

    view: View
    #: When the state of a node was published, and whether it was seen live.
    since: dict[str, tuple[float, bool]] = field(default_factory=dict)


@dataclass
class Seen:
    """What one call has seen of the nodes of its object since it was sent."""

    object: str
    sent: float
    #: The node that was asked; None for any.
    node: Optional[str] = None
    served: dict[str, str] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def suspicion(self, watched: Watched, accepted: Optional[Accepted], now: float) -> Optional[Suspicion]:
        """Returns why the call may get no reply now; None where a node may have it."""
        view = watched.view
        if accepted is not None:
            return self._of_node(view, accepted)
        asked = [claim for claim in view.entries(self.object) if self.node in (None, claim.node)]
        finishes = {claim.node for claim in view.finishers(self.object) if self.node in (None, claim.node)}
        for claim in asked:
            if claim.node in finishes:
                self.served[claim.node] = claim.mode
        is_late = now >= self.sent + ACCEPT_TIMEOUT
        for node, mode in self.served.items():
            if node not in finishes and self._had_it(mode, finishes, is_late):
                state = view.state(node)
                return Suspicion("lost" if state is not None and state.state == entry.LOST else "cleared", node)
        for claim in asked:
            state = view.state(claim.node)
            is_lost = claim.settled and state is not None and state.state == entry.LOST
            if is_lost and self._is_new(watched, claim.node) and self._had_it(claim.mode, finishes, is_late):
                return Suspicion("lost", claim.node)
        for claim in asked:
            if (
                self._is_new(watched, claim.node)
                and view.is_alive(claim)
                and self._was_restarted(watched, claim, finishes, is_late)
            ):
                return Suspicion("restarted", claim.node)
        if finishes:
            return None
        return Suspicion("unserved" if view.is_registered(self.object) else "unknown")

    def _had_it(self, mode: str, finishes: set[str], is_late: bool) -> bool:
        # An exclusive name has one server; where nobody serves it now, that server had the call.
        return (mode == entry.EXCLUSIVE and not finishes) or is_late

    def _is_new(self, watched: Watched, node: str) -> bool:
        since = watched.since.get(node)
        if since is None:
            return False
        at, live = since
        return at + (0.0 if live else _ROUNDING) >= self.sent

    def _was_restarted(self, watched: Watched, claim: Entry, finishes: set[str], is_late: bool) -> bool:
        """Returns whether a node was started after the call was sent, so that it cannot have it."""
        if claim.mode != entry.EXCLUSIVE:
            return is_late
        # Settling an exclusive name takes a second, longer than a call waits before it is watched.
        seen_live = watched.since.get(claim.node, (0.0, False))[1]
        return finishes <= {claim.node} and (not claim.settled or seen_live)

    def _of_node(self, view: View, accepted: Accepted) -> Optional[Suspicion]:
        state = view.state(accepted.node)
        if state is None:
            return Suspicion("cleared", accepted.node) if accepted.node in self.known else None
        self.known.add(accepted.node)
        if state.state == entry.LOST or state.epoch != accepted.epoch:
            return Suspicion("lost", accepted.node)
        return None
