"""Transports between the peers and our broker: `RANTAI_TEST_TRANSPORT` is tcp, tls, ws, wss or unix."""

import atexit
import functools
import os
import pathlib
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading

TRANSPORTS = ("tcp", "tls", "ws", "wss", "unix")
TRANSPORT = os.environ.get("RANTAI_TEST_TRANSPORT", "tcp")
assert TRANSPORT in TRANSPORTS, f"RANTAI_TEST_TRANSPORT is one of {TRANSPORTS}, and not {TRANSPORT!r}"


def uses_tls(transport):
    return transport in ("tls", "wss")


def uses_web(transport):
    return transport in ("ws", "wss")


def issue(folder, name, *extensions):
    """Issues a certificate `NAME.pem` of the CA in `folder`, with its key `NAME.key`; `ca` is the CA itself."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    options = [word for extension in extensions for word in ("-addext", extension)]
    authority = ["-CA", "ca.pem", "-CAkey", "ca.key"] if name != "ca" else []
    request = ["req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}", *options, *authority, "-out", f"{name}.pem"]
    subprocess.run(["openssl", *request], cwd=folder, check=True, capture_output=True, timeout=60)


def issue_for_this_machine(folder):
    """`ca.pem`, and `server.pem` with `server.key` for servers of this machine."""
    issue(folder, "ca", "keyUsage=critical,keyCertSign,cRLSign")
    issue(folder, "server", "subjectAltName=IP:127.0.0.1,DNS:localhost", "basicConstraints=critical,CA:FALSE")


@functools.cache
def certificates():
    """The folder with the certificates of all tests of this process."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rantai-peers-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    issue_for_this_machine(folder)
    return folder


def authority():
    """The file of the authority that peers trust."""
    return str(certificates() / "ca.pem")


def listener(transport, place):
    """`[[listeners]]` of a broker.toml."""
    lines = ["[[listeners]]", f'protocol = "{transport}"']
    lines.append(f'socket = "{place}"' if transport == "unix" else f'address = "{place}"')
    if uses_tls(transport):
        lines += [f'certificate = "{certificates()}/server.pem"', f'key = "{certificates()}/server.key"']
    return "\n".join(lines) + "\n"


@functools.cache
def _context(server):
    if server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates() / "server.pem", certificates() / "server.key")
        return context
    return ssl.create_default_context(cafile=authority())


def connect(target, transport, timeout):
    """A connection to a broker at a port, or at the path of a unix socket."""
    if transport == "unix":
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(timeout)
        end.connect(target)
        end.settimeout(None)
        return end
    end = socket.create_connection(("127.0.0.1", target), timeout)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if uses_tls(transport):
        return Secure(_context(False).wrap_socket(end, server_hostname="127.0.0.1"))
    end.settimeout(None)
    return end


def accept(end, transport, timeout):
    """Accepts the server side of `connect`. Clients of a unix socket connect by TCP."""
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not uses_tls(transport):
        return end
    end.settimeout(timeout)
    return Secure(_context(True).wrap_socket(end, server_side=True))


class Secure:
    """A TLS connection that one thread reads while another one writes, which a socket of `ssl` does not allow."""

    def __init__(self, stream):
        self._stream = stream
        self._stream.setblocking(False)
        # Shut down beneath TLS, while the other thread goes on.
        self._beneath = socket.socket(fileno=os.dup(stream.fileno()))
        self._lock = threading.Lock()

    def recv(self, most):
        try:
            return self._wait_for(lambda: self._stream.recv(most))
        except ssl.SSLError:
            # The other side is gone without an alert.
            return b""

    def sendall(self, data):
        data = memoryview(data)
        while data:
            data = data[self._wait_for(lambda: self._stream.send(data)) :]

    def shutdown(self, how):
        self._beneath.shutdown(how)

    def close(self):
        with self._lock:
            self._beneath.close()
            self._stream.close()

    def _wait_for(self, step):
        while True:
            with self._lock:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    wanted = ([self._stream.fileno()], [])
                except ssl.SSLWantWriteError:
                    wanted = ([], [self._stream.fileno()])
                if -1 in wanted[0] + wanted[1]:
                    raise OSError("closed")
            select.select(*wanted, [], 1)


class Bytes:
    """Splits the bytes of a connection into pieces that are forwarded: packets."""

    def __init__(self):
        self._pending = b""

    def pieces(self, data):
        """Returns each piece with the packets that end in it: where the piece must end if a packet is left out, the
        packet, and where its body starts."""
        self._pending += data
        while frame := first_packet(self._pending):
            raw, body_at = frame
            self._pending = self._pending[len(raw) :]
            yield raw, [(b"", raw, body_at)]


class Frames:
    """Splits the bytes of a WebSocket connection: the handshake unchanged, and then frames, which are forwarded
    unchanged."""

    def __init__(self):
        self._raw = b""
        self._data = b""
        self._upgraded = False

    def pieces(self, data):
        self._raw += data
        if not self._upgraded:
            if (end := self._raw.find(b"\r\n\r\n") + 4) < 4:
                return
            head, self._raw, self._upgraded = self._raw[:end], self._raw[end:], True
            yield head, []
        while found := _first_frame(self._raw):
            raw, mask, payload = found
            self._raw = self._raw[len(raw) :]
            # Continuations are 0, text 1 and binary 2; what is above controls the connection.
            yield raw, self._packets(raw, mask, payload) if raw[0] & 15 < 3 else []

    def _packets(self, raw, mask, payload):
        before, packets = len(self._data), []
        self._data += payload
        taken = 0
        while frame := first_packet(self._data[taken:]):
            packet, body_at = frame
            # What is in the frame before the packet.
            kept = payload[: max(taken - before, 0)]
            packets.append((_frame(raw[0], mask, kept) if kept else b"", packet, body_at))
            taken += len(packet)
        self._data = self._data[taken:]
        return packets


def first_packet(data):
    """Returns the first whole packet in `data` and where its body starts, or None."""
    length = shift = 0
    for at in range(1, min(len(data), 5)):
        length |= (data[at] & 0x7F) << shift
        shift += 7
        if not data[at] & 0x80:
            end = at + 1 + length
            return (data[:end], at + 1) if len(data) >= end else None
    return None


def _first_frame(data):
    """Returns the first whole frame in `data`, its mask and its unmasked payload, or None (RFC 6455, 5.2)."""
    if len(data) < 2:
        return None
    length, at = data[1] & 0x7F, 2
    if length > 125:
        at += 2 if length == 126 else 8
        if len(data) < at:
            return None
        length = int.from_bytes(data[2:at], "big")
    mask = b""
    if data[1] & 0x80:
        mask, at = data[at : at + 4], at + 4
    if len(data) < at + length:
        return None
    payload = data[at : at + length]
    return data[: at + length], mask, _masked(mask, payload)


def _frame(first, mask, payload):
    """Returns a frame with this first byte."""
    size = len(payload)
    masked = 0x80 if mask else 0
    if size < 126:
        head = bytes([first, masked | size])
    elif size < 1 << 16:
        head = bytes([first, masked | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, masked | 127]) + size.to_bytes(8, "big")
    return head + mask + _masked(mask, payload)


def _masked(mask, payload):
    if not mask or not payload:
        return payload
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")
