"""Objects that the tests serve."""

import asyncio
import dataclasses
import enum
import os
import threading
import time
from typing import AsyncIterator, Dict, Iterator, List, Optional, Union

import rantai


@rantai.object("py.calc", version="1.2.0", tags=["math"])
class Calc:
    """Arithmetic, in Python."""

    changed = rantai.event(float, state=True)
    noted = rantai.event(str)

    @rantai.method(idempotent=True)
    def add(self, a: float, b: float = 1) -> float:
        """The sum of `a` and `b`."""
        return a + b

    async def later(self, a: float, b: float) -> float:
        """The sum, by a coroutine."""
        await asyncio.sleep(0)
        return a + b

    def div(self, a: float, b: float) -> float:
        """`a` divided by `b`; fails with kind `division_by_zero`."""
        if b == 0:
            raise rantai.Failed("division_by_zero", "b is 0")
        return a / b

    def whole(self, number: int) -> int:
        return number

    def broken(self) -> int:
        return object()  # type: ignore[return-value]

    def crash(self) -> None:
        raise LookupError("not on the shelf")

    def set(self, value: float) -> None:
        self.changed.emit(value)

    def note(self, text: str) -> None:
        self.noted.emit(text)


@rantai.object("py.echo", replica=True)
class Echo:
    """Says what it is told."""

    def say(self, text: str) -> str:
        return text

    def any(self, value: object = None) -> object:
        return value

    def size(self, data: bytes) -> int:
        return len(data)

    def bytes(self, count: int) -> bytes:
        return b"x" * count

    def who(self) -> str:
        return rantai.context().node

    def caller(self) -> Optional[str]:
        return rantai.context().caller


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    """A point."""

    x: float
    y: float = 0.0
    colour: Optional[Colour] = None


@rantai.object("py.shapes")
class Shapes:
    def centre(self, points: List[Point]) -> Point:
        return Point(sum(p.x for p in points) / len(points), sum(p.y for p in points) / len(points), points[0].colour)

    def count(self, words: List[str]) -> Dict[str, int]:
        return {word: words.count(word) for word in words}

    def either(self, value: Union[int, str]) -> str:
        return type(value).__name__


@rantai.object("py.slow", threads=2, limit=8)
class Slow:
    """Takes its time, and remembers what became of its calls."""

    def __init__(self):
        self.started = 0
        self.cancelled = 0
        self.ended = 0
        self._lock = threading.Lock()

    def wait(self, seconds: float) -> str:
        """Waits, and says how far it is."""
        context = rantai.context()
        with self._lock:
            self.started += 1
        context.on_cancel(self._count)
        parts = 10
        for part in range(parts):
            context.progress(part, parts, "waiting")
            context.sleep(seconds / parts)
        with self._lock:
            self.ended += 1
        return rantai.context().node

    async def async_wait(self, seconds: float) -> str:
        with self._lock:
            self.started += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._count()
            raise
        self.ended += 1
        return rantai.context().node

    @rantai.method(time_limit=0.3)
    def limited(self) -> None:
        rantai.context().sleep(60)

    def counts(self) -> Dict[str, int]:
        return {"started": self.started, "cancelled": self.cancelled, "ended": self.ended}

    def _count(self):
        with self._lock:
            self.cancelled += 1


@rantai.object("py.numbers")
class Numbers:
    """Streams."""

    def __init__(self):
        self.made = 0
        self.closed = 0

    def count(self, to: int) -> Iterator[int]:
        try:
            for number in range(to):
                self.made += 1
                yield number
        finally:
            self.closed += 1

    async def async_count(self, to: int) -> AsyncIterator[int]:
        try:
            for number in range(to):
                self.made += 1
                yield number
                if number % 1000 == 0:
                    await asyncio.sleep(0)
        finally:
            self.closed += 1

    def lines(self, count: int, size: int) -> Iterator[str]:
        for number in range(count):
            self.made += 1
            yield f"{number}:" + "x" * size

    def tick(self, every: float) -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1
            time.sleep(every)

    def fails(self, after: int) -> Iterator[int]:
        yield from range(after)
        raise rantai.Failed("worn_out", "no more numbers")

    def state(self) -> Dict[str, int]:
        return {"made": self.made, "closed": self.closed}


@rantai.object("py.outer")
class Outer:
    """Calls others."""

    def through(self, object: str, a: float, b: float) -> float:
        return rantai.context().client[object].add(a, b)

    def circle(self) -> None:
        rantai.context().client["py.outer"].circle()

    def left(self, object: str) -> float:
        return rantai.context().left()


@rantai.object("py.process")
class ProcessInfo:
    def pid(self) -> int:
        return os.getpid()


@rantai.object("py.replica", replica=True)
class Replica(Slow):
    pass
