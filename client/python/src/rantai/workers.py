"""Where methods run: a pool of threads for plain functions, and one asyncio loop for coroutines."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from typing import Any, Callable, Coroutine, Optional

logger = logging.getLogger("rantai")


class Pool:
    """At most `size` threads, which are started when they are needed."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = max(1, size)
        self._jobs: queue.SimpleQueue[Optional[Callable[[], None]]] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._lock = threading.Lock()

    def run(self, job: Callable[[], None]) -> None:
        """Has a thread call `job`, which must not raise."""
        with self._lock:
            start = self._idle <= self._jobs.qsize() and self._threads < self._size
            if start:
                self._threads += 1
        self._jobs.put(job)
        if start:
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def close(self) -> None:
        """Ends the threads when they have done what is queued."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if job is None:
                return
            try:
                job()
            except BaseException:
                logger.exception("an error in a worker")


class AsyncLoop:
    """An asyncio loop in a thread of its own, started when it is needed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Runs a coroutine; returns a function that cancels it, from any thread."""
        loop = self._started()
        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            task = loop.create_task(coroutine)
            tasks.append(task)
            # The loop itself holds tasks weakly.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        loop.call_soon_threadsafe(begin)
        return lambda: self._cancel(loop, tasks)

    def close(self) -> None:
        """Ends the loop and cancels its tasks."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _cancel(self, loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[None]]) -> None:
        try:
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())
        except RuntimeError:
            # The loop has ended.
            pass

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True).start()
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            for task in list(self._tasks):
                task.cancel()
            loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        finally:
            loop.close()
