"""A folder that is shared on the bus, block by block."""

from __future__ import annotations

import collections
import os
import secrets
import stat
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import blake3
from .context import context
from .faults import Denied, Failed, Mismatch, TooLarge, busy, wrong_parameter
from .objects import method, object

#: Bytes of a block, unless the share says otherwise, and at most.
BLOCK, LARGEST_BLOCK = 65_536, 524_288
#: Files in one list.
_LISTED = 1_000
#: Uploads at a time, and seconds after which one that nothing came for is given up.
_UPLOADS, _ABANDONED = 64, 300.0
#: Files whose digests are kept.
_KNOWN = 64
_LAST_TIME = 253_402_300_799_999


def check_path(path: str) -> Tuple[str, ...]:
    """Divides a path into its parts. Raises `Denied` for one that leads outside or to hidden files."""
    parts = tuple(path.split("/"))
    control = any(ord(char) < 32 or char in "\\\x7f" for char in path)
    if len(path.encode()) > 1024 or len(parts) > 32 or control or any(not p or p.startswith(".") for p in parts):
        raise Denied(f"{path!r} is no path below the folder: use names divided by `/` that do not begin with a dot")
    return parts


@dataclass
class _Upload:
    path: Tuple[str, ...]
    size: int
    etag: str
    attributes: Dict[str, Any]
    part: str
    offset: int
    digest: Any
    touched: float = field(default_factory=time.monotonic)
    early: Dict[int, bytes] = field(default_factory=dict)


@object("files", threads=8)
class FileShare:
    """A shared folder."""

    def __init__(self, folder: str, *, quota_bytes: Optional[int] = None, block_bytes: int = BLOCK) -> None:
        """Shares a folder, for reading alone unless there is a quota.

        Args:
            folder: The folder.
            quota_bytes: Bytes that all files may have together; without it none may be written.
            block_bytes: Bytes that are read and written at a time.
        """
        if not os.path.isdir(folder):
            raise NotADirectoryError(f"cannot share {folder}: it is no folder")
        if not 1 <= block_bytes <= LARGEST_BLOCK:
            raise ValueError(f"cannot share {folder}: block_bytes is from 1 to {LARGEST_BLOCK}")
        self._folder = os.path.realpath(folder)
        self._quota = quota_bytes
        self._block = block_bytes
        self._lock = threading.RLock()
        self._known: collections.OrderedDict[Tuple[Any, ...], str] = collections.OrderedDict()
        self._uploads: Dict[int, _Upload] = {}

    @method(read_only=True)
    def list(self, folder: str = "", after: str = "") -> Dict[str, Any]:
        """The files below a folder, in order, at most a thousand; the next page is `after` the last of them."""
        base = os.path.join(self._folder, *check_path(folder)) if folder else self._folder
        found: List[Dict[str, Any]] = []
        left_out: Dict[str, int] = {}
        for path, status in self._walk(base, folder, left_out):
            if path > after:
                found.append({"path": path, "size": status.st_size, "modified_ms": _modified_ms(status)})
        found.sort(key=lambda entry: entry["path"])
        page = found[:_LISTED]
        result: Dict[str, Any] = {"entries": page, "next": page[-1]["path"] if len(found) > _LISTED else None}
        if left_out and not after:
            result["left_out"] = [{"reason": reason, "count": count} for reason, count in sorted(left_out.items())]
        return result

    @method(read_only=True)
    def open(self, path: str, growing: bool = False) -> Dict[str, Any]:
        """The size and the BLAKE3 digest of a file."""
        with self._opened(path) as file:
            before = os.fstat(file.fileno())
            etag = self._digest(file, before, before.st_size)
            after = os.fstat(file.fileno())
        if _identity(before) != _identity(after) and not growing:
            raise Failed("changing", f"{path} is being written; ask for it as growing, or later")
        executable = bool(before.st_mode & stat.S_IXUSR)
        attributes = {"modified_ms": _modified_ms(before), "executable": executable}
        return {"size": before.st_size, "etag": etag, "block": self._block, "attributes": attributes}

    @method(read_only=True)
    def read(self, path: str, etag: str, offset: int, length: int, size: Optional[int] = None) -> bytes:
        """The bytes from `offset` on, fewer only at the end."""
        if not 0 <= length <= LARGEST_BLOCK or offset < 0:
            raise wrong_parameter("length", f"at most {LARGEST_BLOCK}, from an offset that is not negative")
        with self._opened(path) as file:
            status = os.fstat(file.fileno())
            if size is not None:
                if status.st_size < size:
                    raise Mismatch(f"{path} has become shorter")
                length = max(0, min(length, size - offset))
            elif self._digest(file, status, status.st_size) != etag:
                raise Mismatch(f"{path} is another file now")
            return os.pread(file.fileno(), length, offset) if hasattr(os, "pread") else _seek_read(file, offset, length)

    def create(self, path: str, size: int, etag: str, attributes: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Begins to write a file; returns what is there already of the same one."""
        parts = check_path(path)
        if self._quota is None:
            raise Denied("this folder is read only")
        if size < 0 or len(etag) != 64 or any(char not in "0123456789abcdef" for char in etag):
            raise wrong_parameter("etag", "the BLAKE3 digest in 64 hexadecimal digits, of a size that is not negative")
        with self._lock:
            self._forget_abandoned()
            if len(self._uploads) >= _UPLOADS:
                raise busy(1000)
            for ident, upload in self._uploads.items():
                if upload.path == parts:
                    if upload.etag != etag:
                        raise busy(1000)
                    upload.touched = time.monotonic()
                    return {"id": ident, "offset": upload.offset, "block": self._block}
            self._check_quota(size)
            return self._begin(parts, size, etag, attributes or {})

    def write(self, data: bytes) -> int:
        """Bytes of an upload: its id and the offset, 8 bytes each, then the bytes; returns how many are there."""
        if len(data) < 16:
            raise wrong_parameter("data", "an id and an offset of 8 bytes each, and bytes")
        ident, offset = struct.unpack("!QQ", data[:16])
        block = data[16:]
        with self._lock:
            upload = self._upload(ident)
            upload.touched = time.monotonic()
            if offset + len(block) > upload.size or len(block) > LARGEST_BLOCK:
                raise TooLarge(f"more than the {upload.size} bytes that were announced", limit=upload.size)
            if offset > upload.offset:
                if len(upload.early) >= 16:
                    raise busy(100)
                upload.early[offset] = block
            elif offset == upload.offset:
                with open(upload.part, "ab") as file:
                    while block:
                        file.write(block)
                        upload.digest.update(block)
                        upload.offset += len(block)
                        block = upload.early.pop(upload.offset, b"")
            return upload.offset

    def commit(self, id: int) -> None:
        """Puts a file in its place; -32015 where its digest is another one, and nothing is kept."""
        with self._lock:
            upload = self._upload(id)
            if upload.offset != upload.size:
                raise Mismatch(f"{upload.offset} of {upload.size} bytes are there")
            del self._uploads[id]
            if upload.digest.hexdigest() != upload.etag:
                os.unlink(upload.part)
                raise Mismatch("the digest is another one; nothing is kept")
            _set_attributes(upload.part, upload.attributes)
            with open(upload.part, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(upload.part, os.path.join(self._folder, *upload.path))

    @method(read_only=True)
    def tail(self, path: str, lines: int = 10, follow: bool = False) -> Iterator[str]:
        """The last lines of a file, and with `follow` those that are written from then on."""
        if not 0 <= lines <= 10_000:
            raise wrong_parameter("lines", "from 0 to 10000")
        with self._opened(path) as file:
            start = max(0, os.fstat(file.fileno()).st_size - (4 << 20))
            file.seek(start)
            read = file.read()
        whole, _, rest = read.rpartition(b"\n")
        last = whole.split(b"\n") if whole or rest != read else []
        position = start + len(read) - len(rest)
        if rest and not follow:
            last.append(rest)
        yield from (line.decode("utf-8", "replace") for line in (last[-lines:] if lines else []))
        while follow:
            context().sleep(0.1)
            try:
                with self._opened(path) as file:
                    if os.fstat(file.fileno()).st_size < position:
                        position = 0
                    file.seek(position)
                    whole, newline, _ = file.read(1 << 20).rpartition(b"\n")
            except Failed:
                continue
            position += len(whole) + len(newline)
            if newline:
                yield from (line.decode("utf-8", "replace") for line in whole.split(b"\n"))

    def _walk(self, base: str, prefix: str, left_out: Dict[str, int]) -> Iterator[Tuple[str, os.stat_result]]:
        try:
            entries = sorted(os.scandir(base), key=lambda entry: entry.name)
        except FileNotFoundError:
            raise Failed("not_found", f"no folder {prefix!r}") from None
        except NotADirectoryError:
            raise Failed("not_a_folder", f"{prefix!r} is a file") from None
        for entry in entries:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.name.startswith("."):
                continue
            try:
                check_path(path)
            except (Denied, UnicodeEncodeError):
                left_out["name"] = left_out.get("name", 0) + 1
                continue
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield from self._walk(entry.path, path, left_out)
            elif stat.S_ISREG(status.st_mode):
                yield path, status
            else:
                reason = "link" if stat.S_ISLNK(status.st_mode) else "special"
                left_out[reason] = left_out.get(reason, 0) + 1

    def _opened(self, path: str) -> Any:
        """Opens a file below the folder, without following links."""
        parts = check_path(path)
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        folder = self._folder
        for part in parts[:-1]:
            folder = os.path.join(folder, part)
            if os.path.islink(folder):
                raise Denied(f"{path} leads through a link")
        try:
            descriptor = os.open(os.path.join(folder, parts[-1]), flags)
        except (FileNotFoundError, NotADirectoryError):
            raise Failed("not_found", f"no file {path!r}") from None
        except OSError as error:
            raise Denied(f"{path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Failed("not_a_file", f"{path} is no file")
        return os.fdopen(descriptor, "rb")

    def _digest(self, file: Any, status: os.stat_result, size: int) -> str:
        key = (*_identity(status), size)
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        digest = blake3.new()
        file.seek(0)
        while size:
            block = file.read(min(size, 1 << 20))
            if not block:
                break
            size -= len(block)
            digest.update(block)
        found: str = digest.hexdigest()
        with self._lock:
            self._known[key] = found
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return found

    def _begin(self, parts: Tuple[str, ...], size: int, etag: str, attributes: Dict[str, Any]) -> Dict[str, Any]:
        folder = self._folder
        for part in parts[:-1]:
            folder = os.path.join(folder, part)
            if os.path.islink(folder):
                raise Denied(f"{'/'.join(parts)} leads through a link")
            os.makedirs(folder, exist_ok=True)
        if os.path.isdir(os.path.join(folder, parts[-1])):
            raise Failed("not_a_file", f"{'/'.join(parts)} is a folder")
        part = os.path.join(folder, f".{parts[-1]}.{etag[:16]}.part")
        digest, offset = blake3.new(), 0
        if os.path.islink(part):
            raise Denied(f"{part} is a link")
        if os.path.exists(part):
            with open(part, "rb+") as file:
                file.truncate(min(size, os.fstat(file.fileno()).st_size))
                while block := file.read(1 << 20):
                    digest.update(block)
                    offset += len(block)
        else:
            with open(part, "xb"):
                pass
        ident = secrets.randbits(53)
        self._uploads[ident] = _Upload(parts, size, etag, attributes, part, offset, digest)
        return {"id": ident, "offset": offset, "block": self._block}

    def _upload(self, ident: int) -> _Upload:
        upload = self._uploads.get(ident)
        if upload is None:
            raise Mismatch("there is no such upload (any more): begin it again")
        return upload

    def _check_quota(self, size: int) -> None:
        taken = sum(upload.size for upload in self._uploads.values())
        taken += sum(status.st_size for _, status in self._walk(self._folder, "", {}))
        left = (self._quota or 0) - taken
        if size > left:
            raise TooLarge(f"more than the {max(0, left)} bytes that the quota has left", limit=max(0, left))

    def _forget_abandoned(self) -> None:
        now = time.monotonic()
        for ident, upload in list(self._uploads.items()):
            if now - upload.touched > _ABANDONED:
                del self._uploads[ident]


def _identity(status: os.stat_result) -> Tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _modified_ms(status: os.stat_result) -> int:
    return min(max(0, status.st_mtime_ns // 1_000_000), _LAST_TIME)


def _seek_read(file: Any, offset: int, length: int) -> bytes:
    file.seek(offset)
    read: bytes = file.read(length)
    return read


def _set_attributes(path: str, attributes: Dict[str, Any]) -> None:
    if attributes.get("executable") is True:
        umask = os.umask(0)
        os.umask(umask)
        mode = stat.S_IMODE(os.stat(path).st_mode)
        os.chmod(path, mode | ((mode & 0o444) >> 2 & ~umask))
    modified = attributes.get("modified_ms")
    if isinstance(modified, (int, float)) and not isinstance(modified, bool):
        bounded = min(max(0, int(modified)), _LAST_TIME) * 1_000_000
        os.utime(path, ns=(bounded, bounded))
