"""A call that is carried out, from its start to its reply."""

from __future__ import annotations

import collections.abc
import logging
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

from .context import Context
from .description import Method
from .faults import BrokenObject, Cancelled, Failed, Fault, NodeLost, TimedOut, too_large
from .served import LARGEST_RESULT, CancelKey, Served
from .streaming import LARGEST_ITEM, Streaming
from .wire import reply, text
from .wire.reply import Reply
from .wire.request import IDENTIFYING, Request

if TYPE_CHECKING:
    from .dispatch import Dispatcher

logger = logging.getLogger("rantai")

#: Seconds after which a call that is under way tells its caller so.
ACCEPTED_AFTER = 0.25
#: Most streams that have ended and are kept, and the most bytes of their parts.
_MOST_ENDED, _MOST_KEPT = 256, 16 << 20

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def fault_of(error: BaseException) -> Fault:
    """Returns the error of a reply for an exception of a method: its own (-32000), of a kind named after its class."""
    if isinstance(error, Fault):
        return error
    return Failed(_WORD.sub("_", type(error).__name__).lower(), str(error) or type(error).__name__)


class Running:
    """A call. Its functions are called in the loop's thread, but for those that run the method."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        served: Served,
        method: Method,
        request: Request,
        arguments: dict[str, Any],
        received: float,
        qos: int,
        share: tuple[str, str],
    ) -> None:
        self.dispatcher = dispatcher
        self.served = served
        self.method = method
        self.request = request
        self.qos = qos
        self.share = share
        self.received = received
        limit = method.marks.time_limit
        self.deadline = received + request.ttl_ms / 1000
        self.limit = self.deadline if limit is None else min(self.deadline, received + limit)
        self.is_over = False
        self._arguments = arguments
        self._stop: Callable[[], None] = lambda: None
        self._timer: Any = None
        self._has_accepted = False
        self.stream: Optional[Streaming] = None
        topics = dispatcher.bus.topics
        self.client_id = topics.client_of_reply(request.reply_to) if request.reply_to is not None else None
        self.context = Context(
            object=served.name,
            method=method.name,
            node=dispatcher.bus.client_id,
            client=dispatcher.client,
            deadline=self.limit,
            caller=request.caller,
            via=request.via,
            client_id=self.client_id,
            trail=request.trail,
            traceparent=request.traceparent,
            say=self._progress,
        )

    @property
    def key(self) -> Optional[CancelKey]:
        """What identifies the call to whoever cancels it."""
        correlation = self.request.correlation
        if self.request.reply_to is None or correlation is None or len(correlation) < IDENTIFYING:
            return None
        return self.request.reply_to, correlation, self.request.via

    def start(self) -> None:
        """Carries the call out."""
        loop = self.dispatcher.bus.loop
        self.served.running.add(self)
        self.served.stats.began(self.method.name)
        key = self.key
        if key is not None:
            self.served.cancellable[key] = self
        if self.method.stream and self.request.stream and key is not None:
            self.stream = Streaming(loop, self._publish, self.request.stream, self.limit)
        self._timer = loop.call_at(min(self.received + ACCEPTED_AFTER, self.limit), self._tick)
        if self.method.stream and self.request.stream == 0:
            self.end(Failed("is_stream", "the result is a stream, and the caller takes none"))
        elif self.method.is_async:
            self._stop = self.dispatcher.async_loop.spawn(self._run_async())
        elif self.stream is not None:
            # A slow reader would keep a thread of the pool.
            threading.Thread(target=self._run, name=f"rantai-{self.served.name}-stream", daemon=True).start()
        else:
            self.served.pool.run(self._run)

    def accepted(self) -> None:
        """Tells the caller that this node carries the call out."""
        if self.client_id is not None and self.key is not None:
            self.dispatcher.event(
                self.served.name, "accepted", self.dispatcher.word.write(), self.client_id, self.request.correlation
            )

    def cancel(self) -> bool:
        """Ends the call with -32008; returns False where it was answered already."""
        if self.is_over:
            return False
        self.end(Cancelled("cancelled"))
        return True

    def leave(self) -> None:
        """Ends the call because its node ends."""
        text_ = (
            f"{self.served.name}: its node {self.dispatcher.bus.client_id} ends; the method may have been carried out"
        )
        self.end(NodeLost(text_, maybe_executed=True))

    def end(self, outcome: Any) -> None:
        """Sends the reply: a result, or a `Fault`. Only the first outcome counts."""
        if self.is_over:
            return
        fault = outcome if isinstance(outcome, Fault) else None
        if self.stream is not None and self.stream.has_begun:
            self.stream.abort(lambda items: self._last(fault, items))
        elif fault is not None:
            self._reply(reply.error(fault, self.request.form))
        else:
            limit = min(LARGEST_RESULT, self.dispatcher.bus.connection.largest_payload)
            answer = reply.result(outcome, self.request.form, limit)
            self._reply(
                answer.with_property("secret", "1") if self.method.marks.secret and answer.status == "ok" else answer
            )
        self._over(fault)

    def _tick(self) -> None:
        """Says that the call is accepted, and ends it when its time has passed."""
        if self.is_over:
            return
        loop, now = self.dispatcher.bus.loop, time.monotonic()
        limit = self.limit if self.stream is None else max(self.stream.until, self.limit)
        if now < limit:
            if not self._has_accepted:
                self._has_accepted = True
                self.accepted()
                if self.stream is not None:
                    self.stream.begin()
            self._timer = loop.call_at(limit, self._tick)
            return
        if self.stream is not None and self.stream.has_begun:
            self.end(TimedOut(f"{self.served.name}: the caller took nothing for too long"))
        elif self.limit < self.deadline:
            self.end(TimedOut(f"{self.served.name}.{self.method.name} took longer than its time limit"))
        else:
            # Past the deadline nothing is sent.
            self._over(TimedOut("the deadline has passed"), answered=False)

    def _over(self, fault: Optional[Fault], answered: bool = True) -> None:
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        served = self.served
        served.running.discard(self)
        served.places.give_back(self.share)
        served.stats.ended(self.method.name, time.monotonic() - self.received, fault)
        key = self.key
        if key is not None and served.cancellable.get(key) is self:
            del served.cancellable[key]
        if self.stream is not None:
            self.stream.close()
            if key is not None and self.stream.has_begun:
                self._keep(key)
        identity = self.request.identity()
        if identity is not None and (self.stream is not None or not answered):
            served.duplicates.finish(identity, None, time.monotonic())
        if fault is not None:
            self._stop()
            self.context.cancel()

    def _keep(self, key: CancelKey) -> None:
        """Keeps the parts of a stream that has ended, for a caller that has missed some."""
        assert self.stream is not None
        ended = self.served.ended
        ended[key] = self
        kept = sum(other.stream.kept_bytes() for other in ended.values() if other.stream is not None)
        for oldest, other in list(ended.items()):
            stream = other.stream
            if stream is None or (len(ended) <= _MOST_ENDED and kept <= _MOST_KEPT and stream.until > time.monotonic()):
                break
            kept -= stream.kept_bytes()
            del ended[oldest]

    def _reply(self, answer: Reply) -> None:
        identity = self.request.identity()
        if identity is not None:
            self.served.duplicates.finish(identity, answer, time.monotonic())
        self._publish(answer)

    def _publish(self, answer: Reply) -> None:
        self.dispatcher.reply(self.request.reply_to, self.request.correlation, answer, self.qos)

    def _last(self, fault: Optional[Fault], items: int) -> Reply:
        answer = Reply(b"[]", "ok") if fault is None else reply.error(fault, None)
        return answer.with_property("from", str(items))

    def _progress(self, done: int, total: int, said: str) -> None:
        """Publishes how far the call is. May be called from any thread."""
        if self.client_id is None:
            return
        payload = text.write({"done": done, "total": total, "text": said})
        loop = self.dispatcher.bus.loop
        loop.post(
            self.dispatcher.event, self.served.name, "progress", payload, self.client_id, self.request.correlation
        )

    # What follows runs in a worker.

    def _run(self) -> None:
        if self.is_over:
            return
        self.context.enter()
        try:
            function = getattr(self.served.instance, self.method.attribute)
            result = function(**self._arguments)
            if not self.method.stream:
                outcome = self._written(result)
            elif self.stream is None:
                outcome = self._list(result)
            else:
                self._send_items(self.stream, result)
                return
        except Exception as error:  # noqa: BLE001 - whatever a method raises is its error
            self._failed(error)
            return
        self.dispatcher.bus.loop.post(self.end, outcome)

    async def _run_async(self) -> None:
        if self.is_over:
            return
        self.context.enter()
        try:
            function = getattr(self.served.instance, self.method.attribute)
            if not self.method.stream:
                outcome = self._written(await function(**self._arguments))
            elif self.stream is None:
                outcome = await self._async_list(function(**self._arguments))
            else:
                await self._send_async_items(self.stream, function(**self._arguments))
                return
        except Exception as error:  # noqa: BLE001 - whatever a method raises is its error
            self._failed(error)
            return
        self.dispatcher.bus.loop.post(self.end, outcome)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, Fault):
            logger.warning("%s.%s failed", self.served.name, self.method.name, exc_info=error)
        self.dispatcher.bus.loop.post(self.end, fault_of(error))

    def _written(self, result: Any) -> Any:
        try:
            return self.method.result.write(result)
        except (TypeError, ValueError, AttributeError) as error:
            raise BrokenObject(
                f"{self.method.name} returned something of another type than it declares: {error}"
            ) from error

    def _item(self, item: Any) -> bytes:
        try:
            written = text.write(text.portable(self._written(item)))
        except (TypeError, ValueError) as error:
            raise BrokenObject(f"an item cannot be written: {error}") from None
        if len(written) > LARGEST_ITEM:
            raise too_large(LARGEST_ITEM)
        return written

    def _list(self, items: collections.abc.Iterable[Any]) -> list[Any]:
        result, size = [], 2
        for item in items:
            size += self._checked(size, item)
            result.append(self._written(item))
        return result

    async def _async_list(self, items: collections.abc.AsyncIterable[Any]) -> list[Any]:
        result, size = [], 2
        async for item in items:
            size += self._checked(size, item)
            result.append(self._written(item))
        return result

    def _checked(self, size: int, item: Any) -> int:
        added = len(self._item(item)) + 1
        if size + added > LARGEST_RESULT:
            raise too_large(LARGEST_RESULT)
        self.context.check()
        return added

    def _send_items(self, stream: Streaming, items: collections.abc.Iterable[Any]) -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not stream.put(self._item(item)):
                    break
            else:
                self.dispatcher.bus.loop.post(self._finish_stream)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    async def _send_async_items(self, stream: Streaming, items: collections.abc.AsyncIterable[Any]) -> None:
        iterator = items.__aiter__()
        try:
            async for item in iterator:
                if not await stream.put_async(self._item(item)):
                    break
            else:
                self.dispatcher.bus.loop.post(self._finish_stream)
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    def _finish_stream(self) -> None:
        """All items were made: the call is over when they are sent."""
        if self.stream is not None and not self.is_over:
            self.stream.finish(self._stream_end)

    def _stream_end(self, items: int) -> Reply:
        self.dispatcher.bus.loop.post(self._over_once)
        return self._last(None, items)

    def _over_once(self) -> None:
        if not self.is_over:
            self._over(None)
