"""An object on a node: what it is, what it is allowed, and what is known of the calls to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from .duplicates import Duplicates
from .objects import Emissions, describe_class, emissions, options_of
from .shares import Shares
from .stats import Stats
from .wire.entry import Entry
from .workers import Pool

if TYPE_CHECKING:
    from .running import Running

#: Largest result in bytes.
LARGEST_RESULT = 1 << 20

#: What identifies a call to whoever cancels it: reply topic, correlation, and the user on whose connection it came.
CancelKey = tuple[str, bytes, Optional[str]]


class Served:
    """One object of a node."""

    def __init__(self, name: str, instance: Any) -> None:
        self.name = name
        self.instance = instance
        self.description = describe_class(type(instance))
        self.options = options_of(type(instance))
        self.emissions: Emissions = emissions(instance)
        self.places = Shares(self.options.limit)
        self.duplicates = Duplicates()
        self.stats = Stats()
        self.pool = Pool(f"rantai-{name}", self.options.threads)
        #: The entry that is published while the name is held.
        self.entry: Optional[Entry] = None
        self.running: set[Running] = set()
        self.cancellable: dict[CancelKey, Running] = {}
        #: Streams that have ended, whose last parts the caller may ask for again; the oldest first.
        self.ended: dict[CancelKey, Running] = {}

    def find(
        self, reply_to: Optional[str], key: Optional[bytes], via: Optional[str], caller: Optional[str]
    ) -> Optional[Running]:
        """Returns the call of a correlation whose replies go to the same topic, and that came by the same user."""
        if reply_to is None or key is None:
            return None
        for user in (via, via or caller):
            found = self.cancellable.get((reply_to, key, user)) or self.ended.get((reply_to, key, user))
            if found is not None:
                return found
        return None
