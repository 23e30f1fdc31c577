"""Calls that wait for their replies: what was asked, until when, and where its outcome goes."""

from __future__ import annotations

import concurrent.futures
import itertools
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Optional

from .faults import Fault
from .wire.entry import Accepted

if TYPE_CHECKING:
    from .caller import Caller

#: Replies of one call to every instance that are collected, and their bytes.
COLLECTED, COLLECTED_BYTES = 4_096, 16 << 20

_count = itertools.count(1)
_lock = threading.Lock()


def new_key() -> bytes:
    """Draws Correlation Data: 16 bytes, in the order of the calls; half of them are random."""
    with _lock:
        number = next(_count)
    return number.to_bytes(8, "big") + secrets.token_bytes(8)


@dataclass(frozen=True)
class Progress:
    """How far a call is; a `total` of 0 is not known."""

    done: int
    total: int
    text: str


@dataclass(frozen=True)
class Answer:
    """Reply of one instance to a call to all of them."""

    node: str
    #: The result; None where there is an error.
    result: Any = None
    error: Optional[Fault] = None


@dataclass
class Settings:
    """How a call is made."""

    #: Seconds until the deadline.
    deadline: float = 30.0
    #: The node to ask; None for any.
    node: Optional[str] = None
    #: Whether the call may be carried out twice, and so be sent again where its node is lost.
    idempotent: bool = False
    qos: int = 1
    on_progress: Optional[Callable[[Progress], None]] = None
    #: Correlation Data by which a repetition is recognised; drawn where there is none.
    identity: Optional[bytes] = None


class CallFuture(concurrent.futures.Future[Any]):
    """Result of a call that is under way. `cancel` has the object cancel it."""

    def __init__(self, give_up: Callable[[], None]) -> None:
        super().__init__()
        self._give_up = give_up

    def cancel(self) -> bool:
        """Gives the call up; returns whether it was under way still."""
        cancelled = super().cancel()
        if cancelled:
            self._give_up()
        return cancelled


@dataclass(eq=False)
class Call:
    """A call that is under way. Its functions are called in the loop's thread."""

    caller: Caller
    object: str
    method: str
    payload: bytes
    binary: bool
    settings: Settings
    user: list[tuple[str, str]] = field(default_factory=list)
    #: `call`, `at` or `all`.
    target: str = "call"

    def __post_init__(self) -> None:
        self.key = self.settings.identity or new_key()
        self.node = self.settings.node
        if self.node is not None and self.target == "call":
            self.target = "at"
        self.started = time.monotonic()
        self.deadline = self.started + self.settings.deadline
        self.sent = 0.0
        self.is_sent = False
        self.accepted: Optional[Accepted] = None
        self.timers: list[Any] = []
        self.tries = 0
        #: Whether the request may be sent again in JSON-RPC form: it went out in plain form, and no node has replied.
        self.may_change_form = False
        self.received_bytes = 0
        self.future = CallFuture(lambda: self.caller.bus.loop.post(self.caller.cancel, self))

    def left(self) -> float:
        """Returns the seconds until the deadline."""
        return self.deadline - time.monotonic()

    def answered(self, result: Any, node: str) -> None:
        """The reply has come."""
        if self.caller.finish(self):
            _set(self.future, result, None)

    def failed(self, fault: Fault, node: str) -> None:
        """A reply with an error has come."""
        self.fail(fault)

    def fail(self, fault: Fault) -> None:
        """The call ends with an error."""
        if self.caller.may_repeat(self, fault):
            self.caller.send_again(self)
        elif self.caller.finish(self):
            _set(self.future, None, fault)

    def acknowledged(self) -> None:
        """The broker has taken the request."""

    def lost_connection(self) -> bool:
        """The connection was lost; returns whether the call goes on with the next one."""
        return self.settings.idempotent

    def expired(self, fault: Fault) -> None:
        """The deadline has passed."""
        if self.caller.finish(self):
            _set(self.future, None, fault)


class Collecting(Call):
    """A call to every instance, which collects replies until its deadline."""

    def __post_init__(self) -> None:
        self.target = "all"
        super().__post_init__()
        self._answers: list[Answer] = []

    def answered(self, result: Any, node: str) -> None:
        """The reply of an instance has come."""
        self._collect(Answer(node, result))

    def failed(self, fault: Fault, node: str) -> None:
        """The error of an instance has come; one from `broker` says that there is no instance."""
        if node == "broker":
            self.fail(fault)
        else:
            self._collect(Answer(node, None, fault))

    def _collect(self, answer: Answer) -> None:
        if len(self._answers) < COLLECTED and self.received_bytes <= COLLECTED_BYTES:
            self._answers.append(answer)

    def lost_connection(self) -> bool:
        """What was collected is the result."""
        return False

    def expired(self, fault: Fault) -> None:
        """The deadline has passed: what was collected is the result."""
        if self.caller.finish(self):
            _set(self.future, self._answers, None)


class Oneway(Call):
    """A request that nobody answers: it ends when the broker has taken it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.user.append(("oneway", "1"))

    def acknowledged(self) -> None:
        """The broker has taken the request."""
        self.answered(None, "")


def _set(future: CallFuture, result: Any, fault: Optional[Fault]) -> None:
    try:
        if fault is not None:
            future.set_exception(fault)
        else:
            future.set_result(result)
    except concurrent.futures.InvalidStateError:
        # The caller has just given it up.
        pass
