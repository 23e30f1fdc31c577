"""A relay between a client and a broker that records every packet and can cut the connection at one."""

import socket
import threading
from dataclasses import dataclass

import layers

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)

#: The longest that any wait of these tests takes.
PATIENCE = 10


@dataclass(frozen=True)
class Packet:
    """One MQTT control packet as it crossed the wire."""

    from_broker: bool
    connection: int
    kind: int
    flags: int
    body: bytes

    def __str__(self):
        return f"[{'<' if self.from_broker else '>'}{self.kind}/{self.flags:x} {self.body[:24]!r}]"

    @property
    def packet_id(self):
        """The packet identifier, or None at QoS 0. Any packet but PUBLISH starts with it."""
        at = 0
        if self.kind == PUBLISH:
            if self.qos == 0:
                return None
            at = 2 + len(self.topic)
        return int.from_bytes(self.body[at : at + 2], "big")

    @property
    def topic(self):
        """Returns the topic's bytes; empty if a topic alias replaces it."""
        return self.body[2 : 2 + int.from_bytes(self.body[:2], "big")]

    @property
    def qos(self):
        return self.flags >> 1 & 3

    @property
    def duplicate(self):
        return bool(self.flags & 8)

    @property
    def reason(self):
        """Returns the reason code of a PUBACK, PUBREC, PUBREL or PUBCOMP; 0 if it was left out (MQTT 5, 3.4.2.1)."""
        return self.body[2] if len(self.body) > 2 else 0


class Tap:
    """Listens on its own port and forwards each connection to `target`: a port of 127.0.0.1, or a unix socket. It
    terminates TLS on both sides; WebSocket frames are forwarded unchanged."""

    def __init__(self, target, transport="tcp"):
        self.target = target
        self.transport = transport
        self.packets = []
        self._changed = threading.Condition()
        self._cut_at = None
        self._open = []
        self._connections = 0
        self._ended = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def cut_at(self, from_broker, kind):
        """Cuts the connection instead of forwarding the next packet of this kind."""
        self._cut_at = (from_broker, kind)

    def cut(self):
        """Cuts every connection, without notifying either side. The broker has noticed it when `wait_for_end`
        returns."""
        with self._changed:
            connections, self._open = self._open, []
        for client, broker in connections:
            _close(client)
            _finish(broker)

    def __str__(self):
        """Returns the last packets, for the message of a failure."""
        return " ".join(str(packet) for packet in self.packets[-12:]) or "nothing"

    def close(self):
        _close(self._listener)
        self.cut()

    def seen(self, from_broker, kind):
        """Returns the packets of one kind so far, in order."""
        return [p for p in self.packets if (p.from_broker, p.kind) == (from_broker, kind)]

    def wait(self, from_broker, kind, count=1):
        """Waits for the `count`th packet of one kind, and returns it."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.seen(from_broker, kind)) >= count, PATIENCE)
            assert arrived, f"no packet {kind} (number {count}) within {PATIENCE} s; saw {self}"
            return self.seen(from_broker, kind)[count - 1]

    def wait_for_end(self):
        """Waits until the broker has ended every connection."""
        with self._changed:
            ended = self._changed.wait_for(lambda: 0 < self._connections == self._ended, PATIENCE)
            assert ended, f"still connected after {PATIENCE} s; saw {self}"

    def _start(self, work, *arguments):
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                # First the broker: a client whose handshake is answered has one.
                broker = layers.connect(self.target, self.transport, PATIENCE)
            except OSError:
                _close(client)
                continue
            try:
                client = layers.accept(client, self.transport, PATIENCE)
            except OSError:
                _close(client)
                _close(broker)
                continue
            with self._changed:
                self._open.append((client, broker))
                self._connections += 1
            self._start(self._relay, client, broker, False, self._connections)
            self._start(self._relay, broker, client, True, self._connections)

    def _relay(self, source, target, from_broker, connection):
        read = layers.Frames() if layers.uses_web(self.transport) else layers.Bytes()
        try:
            while data := source.recv(1 << 16):
                for piece, packets in read.pieces(data):
                    for before, raw, body_at in packets:
                        packet = Packet(from_broker, connection, raw[0] >> 4, raw[0] & 15, raw[body_at:])
                        if self._cut_at == (from_broker, packet.kind):
                            self._cut_at = None
                            target.sendall(before)
                            return
                        # Recorded before it is passed on: who reacts to a packet finds it here.
                        with self._changed:
                            self.packets.append(packet)
                            self._changed.notify_all()
                    target.sendall(piece)
        except OSError:
            pass
        finally:
            if from_broker:
                self._end(target, source)
            else:
                _close(source)
                _finish(target)

    def _end(self, client, broker):
        """Stops forwarding to the client; the connection ends when the broker closes it."""
        _close(client)
        _finish(broker)
        try:
            while broker.recv(1 << 16):
                pass
        except OSError:
            pass
        _close(broker)
        with self._changed:
            self._ended += 1
            self._changed.notify_all()


def _finish(end):
    """Stops sending; received bytes are still read."""
    try:
        end.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _close(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
