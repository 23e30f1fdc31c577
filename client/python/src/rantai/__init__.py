"""Objects on an MQTT bus: serve a class in ten lines, call its methods in three."""

from .aio import AsyncClient
from .calls import Answer, Progress
from .client import Client
from .connection import ConnectError
from .context import Context, context
from .events import Event
from .faults import (
    BrokenObject,
    Busy,
    Cancelled,
    DeadHop,
    Denied,
    Expired,
    Failed,
    Fault,
    IdentityReused,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    Mismatch,
    NameTaken,
    NodeLost,
    ParseError,
    TimedOut,
    TooLarge,
    TrailLimit,
    UnknownObject,
)
from .files import File, Files
from .node import Node
from .objects import event, method, object
from .share import FileShare

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AsyncClient",
    "BrokenObject",
    "Busy",
    "Cancelled",
    "Client",
    "ConnectError",
    "Context",
    "DeadHop",
    "Denied",
    "Event",
    "Expired",
    "Failed",
    "Fault",
    "File",
    "FileShare",
    "Files",
    "IdentityReused",
    "InvalidParams",
    "InvalidRequest",
    "MethodNotFound",
    "Mismatch",
    "NameTaken",
    "Node",
    "NodeLost",
    "ParseError",
    "Progress",
    "TimedOut",
    "TooLarge",
    "TrailLimit",
    "UnknownObject",
    "context",
    "event",
    "method",
    "object",
]
