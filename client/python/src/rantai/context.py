"""The call that is carried out: what a method may know of it and say while it runs."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

from .faults import Cancelled, TrailLimit
from .wire import text
from .wire.request import LARGEST_TRAIL

if TYPE_CHECKING:
    from .client import Client

#: Most items of a trail.
LONGEST_TRAIL = 16

_current: contextvars.ContextVar[Optional[Context]] = contextvars.ContextVar("rantai", default=None)


def context() -> Context:
    """Returns the call that is carried out. Raises `RuntimeError` outside of methods."""
    found = _current.get()
    if found is None:
        raise RuntimeError("no call is carried out here: rantai.context() is for the methods of objects")
    return found


def current() -> Optional[Context]:
    """Returns the call that is carried out; None outside of methods."""
    return _current.get()


class Context:
    """A call that is carried out."""

    def __init__(
        self,
        *,
        object: str,
        method: str,
        node: str,
        client: Callable[[], Client],
        deadline: float,
        caller: Optional[str],
        via: Optional[str],
        client_id: Optional[str],
        trail: list[Any],
        traceparent: Optional[str],
        say: Callable[[int, int, str], None],
    ) -> None:
        #: Name of the object, and of the method.
        self.object = object
        self.method = method
        #: Node that carries the call out.
        self.node = node
        #: User who calls, and the one whose connection calls on that user's behalf, where the broker vouches for them.
        self.caller = caller
        self.via = via
        #: Client id of the caller, which anybody may have written.
        self.client_id = client_id
        self.trail = trail
        self.traceparent = traceparent
        self._deadline = deadline
        self._began = time.monotonic()
        self._client = client
        self._say = say
        self._cancelled = threading.Event()
        self._on_cancel: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def client(self) -> Client:
        """Client of the node's own connection, for calls to other objects."""
        return self._client()

    def left(self) -> float:
        """Returns the seconds until the deadline, 0 when it has passed."""
        return max(0.0, self._deadline - time.monotonic())

    def progress(self, done: int, total: int = 0, text: str = "") -> None:
        """Tells the caller how far the call is; a `total` of 0 is not known."""
        self._say(done, total, text)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: the caller gave the call up, or its deadline has passed."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises `Cancelled` where nobody waits for the result any more: for loops of plain functions."""
        if self.cancelled:
            raise Cancelled("cancelled")

    def sleep(self, seconds: float) -> None:
        """Sleeps; raises `Cancelled` as soon as nobody waits for the result any more. For plain functions."""
        if self._cancelled.wait(seconds):
            raise Cancelled("cancelled")

    def on_cancel(self, function: Callable[[], None]) -> None:
        """Has a function called once, in another thread, when the call is cancelled or its deadline passes."""
        with self._lock:
            if not self._cancelled.is_set():
                self._on_cancel.append(function)
                return
        function()

    def cancel(self) -> None:
        """Called by the node: nobody waits for the result any more."""
        with self._lock:
            if self._cancelled.is_set():
                return
            self._cancelled.set()
            told, self._on_cancel = self._on_cancel, []
        for function in told:
            function()

    def hand_on(self) -> tuple[list[tuple[str, str]], float]:
        """Returns the user properties and the seconds of a call to another object that belongs to this one."""
        spent = round((time.monotonic() - self._began) * 1_000_000)
        trail = [*self.trail, {"node": self.object, "us": spent}]
        written = text.write(text.portable(trail))
        if len(trail) > LONGEST_TRAIL or len(written) > LARGEST_TRAIL:
            raise TrailLimit(
                f"the trail has more than {LONGEST_TRAIL} items: objects that call each other in a circle",
                trail=self.trail,
            )
        user = [("trail", written.decode())]
        if self.traceparent is not None:
            user.append(("traceparent", self.traceparent))
        return user, self.left()

    def enter(self) -> contextvars.Token[Optional[Context]]:
        """Makes this the call that is carried out in the running thread or task."""
        return _current.set(self)
