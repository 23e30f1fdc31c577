"""Topics of the bus, formatted and parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple, Union

from . import names


class BadTopic(Exception):
    """A topic of requests that is none of the contract: with too many levels, or with an invalid name."""


@dataclass(frozen=True)
class CallTopic:
    """Topic of a request. `target` is `call`, `all` or `at`; with `at`, `node` names the node."""

    target: str
    object: str
    method: Optional[str] = None
    node: Optional[str] = None

    def format(self, root: str) -> str:
        """Returns the topic."""
        place = f"at/{self.node}" if self.target == "at" else self.target
        method = f"/{self.method}" if self.method is not None else ""
        return f"{root}/{place}/{self.object}{method}"


@dataclass(frozen=True)
class NameTopic:
    """Topic of a registry entry."""

    object: str
    node: str


@dataclass(frozen=True)
class NodeTopic:
    """Topic of a node's state."""

    node: str


@dataclass(frozen=True)
class EventTopic:
    """Topic of an event; with `client` for that client alone."""

    object: str
    event: str
    client: Optional[str] = None


class Topics:
    """Topics below one root."""

    def __init__(self, root: str) -> None:
        self.root = names.root(root)
        self._prefix = self.root + "/"

    def levels(self, topic: str) -> Optional[List[str]]:
        """Returns the levels behind the root; None for a topic that is not below it."""
        if not topic.startswith(self._prefix):
            return None
        return topic[len(self._prefix) :].split("/")

    def parse_call(self, topic: str) -> Optional[CallTopic]:
        """Parses the topic of a request; None for other topics. Raises `BadTopic`."""
        levels = self.levels(topic)
        if levels is None or levels[0] not in ("call", "at", "all"):
            return None
        target, rest, node = levels[0], levels[1:], None
        if target == "at":
            if not rest:
                raise BadTopic(f"{topic!r}: no node")
            node, rest = rest[0], rest[1:]
        if len(rest) > 2:
            raise BadTopic(f"{topic!r}: too many levels")
        if not rest or not names.is_object(rest[0]):
            raise BadTopic(f"{topic!r}: no object name")
        method = rest[1] if len(rest) == 2 else None
        if method is not None and not names.is_method(method):
            raise BadTopic(f"{topic!r}: no method name")
        return CallTopic(target, rest[0], method, node)

    def parse_registry(self, topic: str) -> Union[NameTopic, NodeTopic, None]:
        """Parses the topic of an entry or a node's state; None for others."""
        levels = self.levels(topic) or [""]
        if levels[0] == "name" and len(levels) == 3 and names.is_object(levels[1]) and names.is_id(levels[2]):
            return NameTopic(levels[1], levels[2])
        if levels[0] == "node" and len(levels) == 2 and names.is_id(levels[1]):
            return NodeTopic(levels[1])
        return None

    def parse_event(self, topic: str) -> Optional[EventTopic]:
        """Parses the topic of an event; None for others."""
        levels = self.levels(topic) or [""]
        if levels[0] != "event" or len(levels) not in (3, 4):
            return None
        return EventTopic(levels[1], levels[2], levels[3] if len(levels) == 4 else None)

    def call_filters(self, object: str) -> Tuple[str, str]:
        """Returns the filters for requests to an object: the shared one, and that for every instance."""
        return f"$share/{object}/{self.root}/call/{object}/#", f"{self.root}/all/{object}/#"

    def at_filter(self, node: str) -> str:
        """Returns the filter for requests to a node."""
        return f"{self.root}/at/{node}/#"

    def name(self, object: str, node: str) -> str:
        """Returns the topic of a registry entry."""
        return f"{self.root}/name/{object}/{node}"

    def node(self, node: str) -> str:
        """Returns the topic of a node's state."""
        return f"{self.root}/node/{node}"

    def reply(self, object: str, client: str) -> str:
        """Returns the reply topic of a client."""
        return f"{self.root}/reply/{object}/{client}"

    def public_reply(self, object: str) -> str:
        """Returns the topic of replies to requests that name none."""
        return f"{self.root}/reply/{object}"

    def reply_filter(self, client: str) -> str:
        """Returns the filter for all replies to a client."""
        return f"{self.root}/reply/+/{client}"

    def event(self, object: str, event: str, client: Optional[str] = None) -> str:
        """Returns the topic of an event."""
        return f"{self.root}/event/{object}/{event}" + (f"/{client}" if client else "")

    def is_reply_topic(self, topic: str) -> bool:
        """Returns whether a topic may be a Response Topic: below `{root}/reply/`, no wildcard, at most 256 bytes.

        A topic of the form `{root}/reply/{object}/{client}` may have any length that the names allow.
        """
        levels = self.levels(topic) or [""]
        if levels[0] != "reply" or len(levels) < 2 or not levels[1] or "+" in topic or "#" in topic or "\0" in topic:
            return False
        if len(levels) == 3 and names.is_object(levels[1]) and names.is_id(levels[2]):
            return True
        return len(topic.encode()) <= 256

    def client_of_reply(self, topic: str) -> Optional[str]:
        """Returns the client of a reply topic of the form `{root}/reply/{object}/{client}`; None for others."""
        levels = self.levels(topic) or [""]
        if len(levels) == 3 and levels[0] == "reply" and names.is_id(levels[2]):
            return levels[2]
        return None

    def object_of_reply(self, topic: str, client: str) -> Optional[str]:
        """Returns the object of a reply to `client`; None for other topics."""
        levels = self.levels(topic) or [""]
        if len(levels) == 3 and levels[0] == "reply" and levels[2] == client:
            return levels[1]
        return None
