"""Publishes events of objects. In the loop's thread."""

from __future__ import annotations

import logging
from typing import Any, Optional

from .bus import Bus
from .wire import text
from .wire.message import Publish

logger = logging.getLogger("rantai")


def publish_event(bus: Bus, object: str, event: str, value: Any, retained: bool, client: Optional[str]) -> None:
    """Publishes an event: at QoS 1 where it is state, at QoS 0 otherwise."""
    try:
        payload = text.write(text.portable(value))
        bus.connection.publish(
            Publish(bus.topics.event(object, event, client), payload, qos=1 if retained else 0, retain=retained)
        )
    except (TypeError, ValueError) as error:
        logger.error("%s: the event %s cannot be written: %s", object, event, error)
