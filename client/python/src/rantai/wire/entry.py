"""Registry entries, node states and acceptances: what nodes say of themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Optional

from . import names, text

#: Version of the contract.
VERSION = 1
#: Message Expiry Interval of entries and states, in seconds.
LIFETIME = 24 * 60 * 60
#: Maximum size of an entry, in bytes.
LARGEST_ENTRY = 16 << 10

READY, DRAINING, LOST = "ready", "draining", "lost"
EXCLUSIVE, REPLICA = "exclusive", "replica"
#: `form` of an object that understands requests in JSON-RPC form only.
JSON_RPC = "json-rpc"


def _object(payload: bytes) -> Optional[dict[str, Any]]:
    if not payload or len(payload) > LARGEST_ENTRY:
        return None
    try:
        value = text.read(payload)
    except ValueError:
        return None
    return value if isinstance(value, dict) and value.get("v") == VERSION else None


def _texts(value: object) -> List[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


@dataclass(frozen=True)
class Entry:
    """Registry entry of one object on one node."""

    object: str
    node: str
    epoch: str
    mode: str = EXCLUSIVE
    settled: bool = False
    version: str = ""
    summary: str = ""
    tags: List[str] = field(default_factory=list)
    methods: List[str] = field(default_factory=list)
    events: List[str] = field(default_factory=list)
    #: The only form of requests that the object understands; empty for both.
    form: str = ""

    def beats(self, other: Entry) -> bool:
        """Returns whether this claim wins over another: settled beats unsettled, of equals the lower (epoch, node)."""
        if self.settled != other.settled:
            return self.settled
        return (self.epoch.encode(), self.node.encode()) < (other.epoch.encode(), other.node.encode())

    def write(self) -> bytes:
        """Serializes the entry. Raises `ValueError` where it is too large."""
        members = {
            "v": VERSION,
            "object": self.object,
            "node": self.node,
            "epoch": self.epoch,
            "mode": self.mode,
            "settled": self.settled,
            "version": self.version,
            "summary": self.summary,
            "tags": self.tags,
            "methods": self.methods,
            "events": self.events,
        }
        payload = text.write(members)
        if len(payload) > LARGEST_ENTRY:
            raise ValueError(
                f"cannot register {self.object}: its entry has {len(payload)} bytes, {LARGEST_ENTRY} are the limit; "
                "shorten its summary or give it fewer methods"
            )
        return payload

    @staticmethod
    def read(object: str, node: str, payload: bytes) -> Optional[Entry]:
        """Parses an entry; None if it is none. The names of the topic win over what is inside."""
        members = _object(payload)
        if members is None or not isinstance(members.get("epoch"), str):
            return None
        mode = members.get("mode", EXCLUSIVE)
        if mode not in (EXCLUSIVE, REPLICA):
            return None
        version, summary = members.get("version"), members.get("summary")
        return Entry(
            object,
            node,
            members["epoch"],
            mode,
            members.get("settled") is True,
            version if isinstance(version, str) else "",
            summary if isinstance(summary, str) else "",
            _texts(members.get("tags")),
            _texts(members.get("methods")),
            _texts(members.get("events")),
            JSON_RPC if members.get("form") == JSON_RPC else "",
        )


@dataclass(frozen=True)
class NodeState:
    """State of a node: `ready`, `draining` or `lost`, and the epoch of its start."""

    state: str
    epoch: str

    def write(self) -> bytes:
        """Serializes the state."""
        return text.write({"v": VERSION, "state": self.state, "epoch": self.epoch})

    @staticmethod
    def read(payload: bytes) -> Optional[NodeState]:
        """Parses a state; None if it is none."""
        members = _object(payload)
        if members is None or members.get("state") not in (READY, DRAINING, LOST):
            return None
        epoch = members.get("epoch")
        return NodeState(members["state"], epoch) if isinstance(epoch, str) else None


@dataclass(frozen=True)
class Accepted:
    """Event `accepted`: the node that carries a call out."""

    node: str
    epoch: str

    def write(self) -> bytes:
        """Serializes the event."""
        return text.write({"node": self.node, "epoch": self.epoch})

    @staticmethod
    def read(payload: bytes) -> Optional[Accepted]:
        """Parses the event; None if it is none."""
        try:
            members = text.read(payload)
        except ValueError:
            return None
        if not isinstance(members, dict):
            return None
        node, epoch = members.get("node"), members.get("epoch")
        if isinstance(node, str) and isinstance(epoch, str) and names.is_id(node):
            return Accepted(node, epoch)
        return None
