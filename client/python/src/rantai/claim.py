"""A claim to the name of an object: a state machine without I/O. Times are those of `time.monotonic`.

Every input returns what is to be done, in order:

| Action | What the node does |
|---|---|
| `Watch` | subscribes to the entries of the name and the states of their nodes, and calls `quiet` when all have come |
| `Announce(settled)` | publishes the entry, and calls `announced` at PUBACK |
| `Subscribe` | subscribes to the calls, and calls `subscribed` at SUBACK |
| `Withdraw` | unsubscribes from the calls and clears the entry |
| `Wake(when)` | calls `woken` at that time |
| `Ping(entry)` | sends `rpc.ping` to the holder, and calls `pinged` |
| `DeclareLost(entry)` | publishes the holder's state as lost |
| `AskToYield(entry)` | sends `rpc.yield` to the holder |
| `Report(holder)` | tells whoever serves the object: None is held, otherwise the node that has the name |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Protocol, Union

from .wire import entry
from .wire.entry import Entry

#: Seconds for which a claim stands before it is settled.
CONTEST = 1.0
#: Seconds that a holder has to give a name up, and after which a claim that has not settled counts no more.
YIELD = 5.0
#: Seconds in which nothing more comes before a name is claimed again.
QUIET = 0.1
#: Seconds between two pings of a holder.
PING_INTERVAL = 30.0


@dataclass(frozen=True)
class Watch:
    """Subscribes to the registry."""


@dataclass(frozen=True)
class Announce:
    """Publishes the entry."""

    settled: bool


@dataclass(frozen=True)
class Subscribe:
    """Subscribes to the calls."""


@dataclass(frozen=True)
class Withdraw:
    """Unsubscribes from the calls and clears the entry."""


@dataclass(frozen=True)
class Wake:
    """Calls `woken` at a time."""

    when: float


@dataclass(frozen=True)
class Ping:
    """Asks whether a holder is there."""

    holder: Entry


@dataclass(frozen=True)
class DeclareLost:
    """Publishes a holder's state as lost."""

    holder: Entry


@dataclass(frozen=True)
class AskToYield:
    """Asks a holder to give the name up."""

    holder: Entry


@dataclass(frozen=True)
class Report:
    """Tells the result of the claim."""

    holder: Optional[str]


Action = Union[Watch, Announce, Subscribe, Withdraw, Wake, Ping, DeclareLost, AskToYield, Report]

OFFLINE, LOOKING, PINGING, YIELDING, CONTESTING, SUBSCRIBING, HELD, WAITING, STOPPED = (
    "offline",
    "looking",
    "pinging",
    "yielding",
    "contesting",
    "subscribing",
    "held",
    "waiting",
    "stopped",
)


class Others(Protocol):
    """The registry, as far as it concerns the other claimants of the name."""

    def claims(self, now: float) -> list[Entry]:
        """Returns the entries of other nodes that are ready and count now: settled, or published within 5 s."""


class Claim:
    """A claim to one name."""

    def __init__(self, mine: Entry, others: Others, replace: bool = False) -> None:
        self.mine = mine
        self.state = OFFLINE
        self._others = others
        self._replace = replace
        self._wake: Optional[float] = None
        self._vacant_since: Optional[float] = None
        self._not_before = 0.0
        self._pinged: set[tuple[str, str]] = set()

    @property
    def settled(self) -> bool:
        """Whether the name is held, or about to be."""
        return self.state in (SUBSCRIBING, HELD)

    def connected(self, now: float) -> list[Action]:
        """A connection was made."""
        if self.state == STOPPED:
            return []
        self.state = LOOKING
        return [Watch()]

    def disconnected(self) -> list[Action]:
        """The connection was lost; the broker has published the will."""
        if self.state != STOPPED:
            self.state = OFFLINE
            self._wake = None
        return []

    def quiet(self, now: float) -> list[Action]:
        """All retained entries and states have come."""
        if self.state != LOOKING:
            return []
        self._pinged.clear()
        return self._decide(now)

    def changed(self, now: float) -> list[Action]:
        """The registry has changed."""
        rival = self._rival(now)
        if self.state in (CONTESTING, SUBSCRIBING, HELD) and rival is not None:
            return self._give_way(rival, now)
        if self.state == YIELDING and (rival is None or not rival.settled):
            return self._contest(now) if rival is None else self._give_way(rival, now)
        if self.state == WAITING:
            return self._wait_for_vacancy(now)
        return []

    def woken(self, now: float) -> list[Action]:
        """The time of a `Wake` has come."""
        if self._wake is None or now < self._wake:
            return []
        self._wake = None
        if self.state == CONTESTING:
            rival = self._rival(now)
            if rival is not None:
                return self._give_way(rival, now)
            self.state = SUBSCRIBING
            return [Subscribe()]
        if self.state == YIELDING:
            rival = self._rival(now)
            return self._give_way(rival, now) if rival is not None else self._contest(now)
        if self.state == WAITING:
            held = [claim for claim in self._others.claims(now) if claim.settled and not self._together(claim)]
            pings: list[Action] = [Ping(claim) for claim in held[:1]]
            return [*self._wait_for_vacancy(now), *pings]
        return []

    def announced(self, settled: bool, now: float) -> list[Action]:
        """PUBACK of the entry has come."""
        if self.state == CONTESTING and not settled:
            return self._sleep(now + CONTEST)
        if self.state == SUBSCRIBING and settled:
            self.state = HELD
            return [Report(None), *self.changed(now)]
        return []

    def subscribed(self, now: float) -> list[Action]:
        """SUBACK of the calls has come."""
        return [Announce(True)] if self.state == SUBSCRIBING else []

    def pinged(self, holder: Entry, alive: bool, now: float) -> list[Action]:
        """A ping of the holder has ended."""
        if self.state not in (PINGING, WAITING):
            return []
        still_there = holder in self._others.claims(now)
        if not alive and still_there:
            actions: list[Action] = [DeclareLost(holder)]
            if self.state == PINGING:
                self.state = LOOKING
            return [*actions, *(self.quiet(now) if self.state == LOOKING else [])]
        if self.state == PINGING:
            return self._decide(now)
        return []

    def yielded(self, now: float) -> list[Action]:
        """Another node has asked for the name; it has claimed it."""
        if self.state != HELD:
            return []
        self._not_before = now + YIELD
        return self._wait(now)

    def stop(self) -> list[Action]:
        """The object is not served any more."""
        was, self.state = self.state, STOPPED
        return [Withdraw()] if was not in (OFFLINE, STOPPED) else []

    def _decide(self, now: float) -> list[Action]:
        """Claims the name, or finds that another node has it."""
        rival = self._rival(now)
        if rival is None:
            return self._contest(now)
        if rival.settled and (rival.node, rival.epoch) not in self._pinged:
            self._pinged.add((rival.node, rival.epoch))
            self.state = PINGING
            return [Ping(rival)]
        if self._replace and rival.settled and self.mine.mode == entry.EXCLUSIVE:
            self.state = YIELDING
            return [Announce(False), AskToYield(rival), *self._sleep(now + YIELD)]
        return self._give_way(rival, now, announced=False)

    def _contest(self, now: float) -> list[Action]:
        if self.mine.mode == entry.REPLICA:
            self.state = SUBSCRIBING
            return [Subscribe()]
        self.state = CONTESTING
        self._wake = None
        return [Announce(False)]

    def _give_way(self, rival: Entry, now: float, announced: bool = True) -> list[Action]:
        actions = self._wait(now)
        if not announced:
            actions = [action for action in actions if not isinstance(action, Withdraw)]
        return [*actions, Report(rival.node)]

    def _wait(self, now: float) -> list[Action]:
        self.state = WAITING
        self._vacant_since = self._wake = None
        return [Withdraw(), *self._wait_for_vacancy(now)]

    def _wait_for_vacancy(self, now: float) -> list[Action]:
        """Claims the name again when no other node has it, and nothing more has come for `QUIET` seconds."""
        rivals = [claim for claim in self._others.claims(now) if not self._together(claim)]
        if rivals:
            was_vacant, self._vacant_since = self._vacant_since is not None, None
            if self._wake is not None and not was_vacant:
                return []
            return self._sleep(now + (PING_INTERVAL if any(claim.settled for claim in rivals) else YIELD))
        if self._vacant_since is None:
            self._vacant_since = now
        begin = max(self._vacant_since + QUIET, self._not_before)
        if now >= begin:
            self._vacant_since = None
            self._not_before = 0.0
            self._pinged.clear()
            return self._decide(now)
        return self._sleep(begin)

    def _sleep(self, when: float) -> list[Action]:
        self._wake = when
        return [Wake(when)]

    def _together(self, other: Entry) -> bool:
        return self.mine.mode == entry.REPLICA and other.mode == entry.REPLICA

    def _rival(self, now: float) -> Optional[Entry]:
        """Returns a claim that wins over this one."""
        mine = self.mine if self.mine.settled == self.settled else replace(self.mine, settled=self.settled)
        for other in self._others.claims(now):
            if not self._together(other) and other.beats(mine):
                return other
        return None
