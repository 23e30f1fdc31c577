"""MQTT messages as the rest of the package sees them, independent of the MQTT library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional, Tuple

#: Content type of binary parameters and results.
BINARY = "application/octet-stream"


@dataclass
class Properties:
    """The MQTT 5 properties that the contract uses."""

    response_topic: Optional[str] = None
    correlation: Optional[bytes] = None
    expiry: Optional[int] = None
    content_type: Optional[str] = None
    user: List[Tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> Optional[str]:
        """Returns the first user property of this name."""
        for key, value in self.user:
            if key == name:
                return value
        return None


@dataclass
class Message:
    """A message that arrived."""

    topic: str
    payload: bytes
    properties: Properties
    qos: int = 1
    retain: bool = False


@dataclass
class Publish:
    """A message to publish."""

    topic: str
    payload: bytes = b""
    properties: Properties = field(default_factory=Properties)
    qos: int = 1
    retain: bool = False
