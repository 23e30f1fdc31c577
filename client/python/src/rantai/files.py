"""Fetches and sends files of a shared folder, with their digests checked."""

from __future__ import annotations

import collections
import os
import struct
import time
from dataclasses import dataclass
from typing import Any, Callable, Deque, Iterator, List, Tuple

from . import blake3
from .calls import CallFuture
from .client import Client, Proxy
from .faults import Fault, InvalidParams, Mismatch
from .share import _set_attributes, check_path

#: Blocks that are under way at a time.
_UNDER_WAY = 8


@dataclass(frozen=True)
class File:
    """A file of a shared folder."""

    path: str
    size: int
    modified_ms: int


class Files:
    """A shared folder: `Files(client, "books")`."""

    def __init__(self, client: Client, name: str, *, patience: float = 30.0) -> None:
        """Creates the handle.

        Args:
            client: The client.
            name: Name of the object.
            patience: Seconds without progress after which a transfer ends.
        """
        self._object: Proxy = client.object(name)(deadline=patience)
        self._patience = patience

    def list(self, folder: str = "") -> List[File]:
        """Returns the files below a folder, in order of their paths."""
        found: List[File] = []
        after = ""
        while True:
            page = self._object.list(folder, after)
            found += [File(entry["path"], entry["size"], entry["modified_ms"]) for entry in page["entries"]]
            after = page.get("next") or ""
            if not after:
                return found

    def get(self, path: str, to: str) -> File:
        """Fetches a file, whole or not at all, and replaces the one that is there.

        What has arrived stands in a hidden file beside it, and is gone on with where a transfer was interrupted. Raises
        `Mismatch` where the digest of what arrived is another one.
        """
        check_path(path)
        opened = self._opened(path)
        size, etag, block = opened["size"], opened["etag"], opened["block"]
        folder, name = os.path.split(os.path.abspath(to))
        part = os.path.join(folder, f".{name}.{etag[:16]}.part")
        digest, offset = blake3.new(), 0
        with open(part, "ab+") as file:
            file.seek(0)
            while read := file.read(1 << 20):
                digest.update(read)
                offset += len(read)

            def ask(at: int) -> CallFuture:
                return self._object.read.start(path, etag, at, min(block, size - at))

            for data in _pipelined(ask, range(offset, size, block), self._patience):
                file.write(data)
                digest.update(data)
                offset += len(data)
            file.flush()
            os.fsync(file.fileno())
        if offset != size or digest.hexdigest() != etag:
            os.unlink(part)
            raise Mismatch(f"{path}: what arrived has another digest; try again")
        _set_attributes(part, opened.get("attributes") or {})
        os.replace(part, to)
        return File(path, size, (opened.get("attributes") or {}).get("modified_ms", 0))

    def put(self, local: str, path: str) -> None:
        """Sends a file, which is there whole or not at all; goes on from what the other side has."""
        check_path(path)
        with open(local, "rb") as file:
            status = os.fstat(file.fileno())
            size, digest = status.st_size, blake3.new()
            left = size
            while left:
                read = file.read(min(left, 1 << 20))
                if not read:
                    raise Mismatch(f"{local} has become shorter")
                digest.update(read)
                left -= len(read)
            attributes = {
                "modified_ms": max(0, status.st_mtime_ns // 1_000_000),
                "executable": bool(status.st_mode & 0o100),
            }
            created = self._created(path, size, digest.hexdigest(), attributes)

            def send(at: int) -> CallFuture:
                file.seek(at)
                data = struct.pack("!QQ", created["id"], at) + file.read(min(created["block"], size - at))
                return self._object.write.start(data)

            for _ in _pipelined(send, range(created["offset"], size, created["block"]), self._patience):
                pass
        self._object.commit(created["id"])

    def tail(self, path: str, lines: int = 10, *, follow: bool = False) -> Iterator[str]:
        """Returns the last lines of a file, and with `follow` those that are written from then on."""
        items: Iterator[str] = self._object.tail.stream(path, lines, follow)
        return items

    def _opened(self, path: str) -> Any:
        return self._object.open(path)

    def _created(self, path: str, size: int, etag: str, attributes: Any) -> Any:
        try:
            return self._object.create(path, size, etag, attributes)
        except InvalidParams:
            # A node from before attributes.
            return self._object.create(path, size, etag)


def _pipelined(ask: Callable[[int], CallFuture], offsets: range, patience: float) -> Iterator[Any]:
    """Asks for blocks, several at a time, and returns their results in order; a busy or lost node is asked again."""
    waiting: Deque[Tuple[int, CallFuture]] = collections.deque()
    remaining = iter(offsets)
    until = time.monotonic() + patience
    while True:
        while len(waiting) < _UNDER_WAY:
            offset = next(remaining, None)
            if offset is None:
                break
            waiting.append((offset, ask(offset)))
        if not waiting:
            return
        offset, future = waiting.popleft()
        try:
            result = future.result()
        except Fault as fault:
            if not fault.retryable or time.monotonic() > until:
                raise
            time.sleep(0.1)
            waiting.appendleft((offset, ask(offset)))
            continue
        until = time.monotonic() + patience
        yield result
