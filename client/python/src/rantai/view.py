"""View of the registry, built from its retained messages. No I/O."""

from __future__ import annotations

from typing import Iterator, Optional

from .faults import Fault, NodeLost, UnknownObject
from .wire import entry, names
from .wire.entry import Entry, NodeState
from .wire.topics import NameTopic, Topics


class View:
    """Entries and node states as they were last seen."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._entries: dict[str, dict[str, Entry]] = {}
        self._states: dict[str, NodeState] = {}

    def apply(self, topic: str, payload: bytes) -> None:
        """Takes a message of the registry; others are ignored, and what cannot be read counts as cleared."""
        parsed = self._topics.parse_registry(topic)
        if parsed is None:
            return
        if isinstance(parsed, NameTopic):
            found = Entry.read(parsed.object, parsed.node, payload)
            entries = self._entries.setdefault(parsed.object, {})
            if found is not None:
                entries[parsed.node] = found
            else:
                entries.pop(parsed.node, None)
            if not entries:
                del self._entries[parsed.object]
            return
        state = NodeState.read(payload)
        if state is not None:
            self._states[parsed.node] = state
        else:
            self._states.pop(parsed.node, None)

    def clear(self) -> None:
        """Forgets everything, as after a lost connection."""
        self._entries.clear()
        self._states.clear()

    def state(self, node: str) -> Optional[NodeState]:
        """Returns the state of a node."""
        return self._states.get(node)

    def objects(self) -> list[str]:
        """Returns the names of all objects with an entry, in order."""
        return sorted(self._entries)

    def entries(self, object: str) -> list[Entry]:
        """Returns the entries of an object."""
        return list(self._entries.get(object, {}).values())

    def is_registered(self, object: str) -> bool:
        """Returns whether the object has an entry, whether it is served or not."""
        return object in self._entries

    def is_alive(self, claim: Entry) -> bool:
        """Returns whether the node of an entry is ready, and has its epoch."""
        state = self._states.get(claim.node)
        return state is not None and state.state == entry.READY and state.epoch == claim.epoch

    def finishers(self, object: str) -> Iterator[Entry]:
        """Returns the entries whose nodes serve the object or finish its calls."""
        for claim in self.entries(object):
            state = self._states.get(claim.node)
            if claim.settled and state is not None and state.epoch == claim.epoch and state.state != entry.LOST:
                yield claim

    def is_served(self, object: str) -> bool:
        """Returns whether a node serves the object."""
        return any(claim.settled and self.is_alive(claim) for claim in self.entries(object))

    def json_rpc_node(self, object: str) -> Optional[str]:
        """Returns a node that serves the object and understands requests in JSON-RPC form only."""
        for claim in self.entries(object):
            if claim.form == entry.JSON_RPC and claim.settled and self.is_alive(claim):
                return claim.node
        return None

    def absence(self, object: str, node: Optional[str]) -> Fault:
        """Returns the error of a request to `object`, on `node` where one was named, that nobody received."""
        served = self.json_rpc_node(object) if node is None else None
        if served is not None:
            text = f"{object} takes requests in JSON-RPC form only"
            return NodeLost(text, node=served, form=entry.JSON_RPC)
        for claim in self.entries(object):
            if node is not None and claim.node != node:
                text = f"{object} is not on node {node}; it is on {claim.node}"
            elif claim.settled and self.is_alive(claim):
                text = f"{object} is being registered by node {claim.node}; try again"
            else:
                text = f"{object} is registered, but its node {claim.node} is lost"
            return NodeLost(text, node=claim.node)
        similar = names.similar(object, self._entries)
        return UnknownObject(f'no object "{object}"', object=object, did_you_mean=similar)


def node_lost(object: str, node: str) -> NodeLost:
    """Returns the error of a call whose node was lost and may have carried it out."""
    text = f"{object}: its node {node} was lost while the call waited; the method may have been carried out"
    return NodeLost(text, node=node, maybe_executed=True)
