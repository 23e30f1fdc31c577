"""A connection to a broker that is made again when it is lost. The one module that knows the MQTT library."""

from __future__ import annotations

import collections
import logging
import random
import selectors
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Protocol

from paho.mqtt.client import Client as MqttClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as MqttProperties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .address import Address, Tls
from .loop import Loop
from .wire.message import Message, Properties, Publish

logger = logging.getLogger("rantai")

#: Seconds without traffic after which the broker is asked whether it is there.
KEEP_ALIVE = 20
#: Bytes of a packet beside its payload and topic, at most.
_BESIDE = 8 << 10
#: Largest packet that is taken, in bytes: a result of 1 MiB and its properties.
LARGEST_PACKET = 2 << 20
#: Messages of QoS 1 that the broker may send before it has their PUBACKs.
RECEIVE_MAXIMUM = 4_096
#: Seconds within which a connection has to be made.
CONNECT_TIMEOUT = 10.0
#: Reason codes of CONNACK after which trying again is of no use.
_FINAL = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x95})

#: Result of a publish at QoS 1: PUBACK's reason code and Reason String, or None where the connection was lost.
Acknowledged = Callable[[Optional[int], str], None]


class ConnectError(ConnectionError):
    """No connection to a broker. The message says which, why, and what to do."""


class Handler(Protocol):
    """What a connection tells. All functions are called in the loop's thread."""

    def connected(self) -> None:
        """A connection was made."""

    def disconnected(self) -> None:
        """The connection was lost."""

    def received(self, message: Message) -> None:
        """A message arrived."""

    def ended(self, error: ConnectError) -> None:
        """No connection can be made."""


@dataclass
class Options:
    """How to connect."""

    addresses: list[Address]
    client_id: str
    user: Optional[str] = None
    password: Optional[str] = None
    tls: Tls = field(default_factory=Tls)
    will: Optional[Publish] = None
    keep_alive: int = KEEP_ALIVE


class _Packed(MqttProperties):
    """Properties of a PUBLISH, serialized at once: the library's own take ten times as long."""

    def __init__(self, properties: Properties) -> None:
        parts = []
        if properties.expiry is not None:
            parts.append(struct.pack("!BI", 0x02, properties.expiry))
        if properties.content_type is not None:
            parts.append(b"\x03" + _sized(properties.content_type.encode()))
        if properties.response_topic is not None:
            parts.append(b"\x08" + _sized(properties.response_topic.encode()))
        if properties.correlation is not None:
            parts.append(b"\x09" + _sized(properties.correlation))
        for name, value in properties.user:
            parts.append(b"\x26" + _sized(name.encode()) + _sized(value.encode()))
        body = b"".join(parts)
        object.__setattr__(self, "_packed", _variable(len(body)) + body)

    def pack(self) -> bytes:
        """Returns the bytes of the properties, with their length before them."""
        packed: bytes = self.__dict__["_packed"]
        return packed

    def __str__(self) -> str:
        return "…"


def _sized(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise ValueError("a property of more than 65,535 bytes")
    return struct.pack("!H", len(data)) + data


def _variable(number: int) -> bytes:
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def _message(message: MQTTMessage) -> Message:
    found = message.properties
    properties = Properties(
        getattr(found, "ResponseTopic", None),
        getattr(found, "CorrelationData", None),
        getattr(found, "MessageExpiryInterval", None),
        getattr(found, "ContentType", None),
        getattr(found, "UserProperty", []),
    )
    return Message(message.topic, bytes(message.payload), properties, message.qos, message.retain)


class Connection:
    """Connection to the first broker of a list that takes it; everything is called in the loop's thread."""

    def __init__(self, loop: Loop, options: Options, handler: Handler) -> None:
        self.loop = loop
        self.options = options
        self.online = False
        #: What CONNACK names in its user property `rantai`.
        self.features: frozenset[str] = frozenset()
        #: Address of the broker that the connection is made to.
        self.address = options.addresses[0]
        self.unsent_bytes = 0
        self._handler = handler
        self._client: Optional[MqttClient] = None
        self._socket: Any = None
        self._attempt = 0
        self._closing = False
        self._failures = 0
        self._next_address = 0
        self._window = 0xFFFF
        self._largest = 0xFFFFFFFF
        self._unacknowledged: dict[int, tuple[Optional[Acknowledged], int]] = {}
        self._queued: collections.deque[tuple[Publish, Optional[Acknowledged]]] = collections.deque()
        self._subscribing: dict[int, Callable[[Optional[list[int]]], None]] = {}
        self._unsubscribing: dict[int, Callable[[], None]] = {}
        self._deadline: Any = None
        self._reason = "the connection was closed"
        self._said = ""
        self._code: Optional[int] = None
        #: Why the last attempt failed.
        self.last_error: Optional[ConnectError] = None
        loop.before_wait = self._flush

    @property
    def largest_payload(self) -> int:
        """Largest payload that the broker takes, in bytes: what else is in its packet has room."""
        return self._largest - _BESIDE

    @property
    def disconnect_code(self) -> Optional[int]:
        """Reason code of the DISCONNECT by which the broker ended the last connection; None without one."""
        return self._code

    def open(self) -> None:
        """Begins to connect."""
        self._attempt += 1
        self.address = self.options.addresses[self._next_address]
        try:
            client = self._new_client(self.address)
        except (OSError, ValueError) as error:
            self._fail(ConnectError(f"cannot connect to {self.address}: {error}"), final=True)
            return
        attempt, address = self._attempt, self.address
        self._client = client
        self._deadline = self.loop.call_later(CONNECT_TIMEOUT + 1, self._lost, attempt, "no answer in time")
        # Resolving the name and TCP's and TLS's handshakes block.
        name = f"rantai-connect-{self.options.client_id}"
        threading.Thread(target=self._dial, args=(client, address, attempt), name=name, daemon=True).start()

    def close(self, done: Callable[[], None]) -> None:
        """Sends what is queued and DISCONNECT, and connects no more."""
        self._closing = True
        client, self._client = self._client, None
        if client is not None and self.online:
            self._client = client
            self._flush()
            client.disconnect()
            self._write(client)
            self._client = None
        self._drop(client)
        done()

    def publish(self, message: Publish, acknowledged: Optional[Acknowledged] = None) -> bool:
        """Publishes a message on this connection or not at all; returns whether it is sent or queued.

        `acknowledged` is called once for a message of QoS 1 that was taken. Raises `ValueError` for one that is too
        large.
        """
        size = len(message.payload) + len(message.topic) + 1024
        if size > self._largest:
            raise ValueError(f"more than the {self._largest} bytes that the broker takes")
        if not self.online or self._client is None:
            return False
        if message.qos == 0:
            self._send(message)
            return True
        self._queued.append((message, acknowledged))
        self.unsent_bytes += size
        self._send_queued()
        return True

    def subscribe(self, filters: list[tuple[str, bool]], done: Callable[[Optional[list[int]]], None]) -> None:
        """Subscribes to filters; each with whether retained messages are left out (retain handling 2).

        `done` is called with the reason codes, or None where the connection was lost.
        """
        if not self.online or self._client is None:
            done(None)
            return
        subscriptions = [
            (topic, SubscribeOptions(qos=1, noLocal=False, retainHandling=2 if live else 0)) for topic, live in filters
        ]
        _, mid = self._client.subscribe(subscriptions)
        if mid is None:
            done(None)
        else:
            self._subscribing[mid] = done

    def unsubscribe(self, filters: list[str], done: Callable[[], None] = lambda: None) -> None:
        """Unsubscribes from filters; `done` is called when the broker has done so, or the connection is lost."""
        if not self.online or self._client is None or not filters:
            done()
            return
        _, mid = self._client.unsubscribe(filters)
        if mid is None:
            done()
        else:
            self._unsubscribing[mid] = done

    def _new_client(self, address: Address) -> MqttClient:
        transport: Any = "unix" if address.scheme == "unix" else "websockets" if address.is_web else "tcp"
        client = MqttClient(
            CallbackAPIVersion.VERSION2,
            client_id=self.options.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            transport=transport,
        )
        user = address.user if address.user is not None else self.options.user
        password = address.password if address.user is not None else self.options.password
        if user is not None:
            client.username_pw_set(user, password)
        if address.is_tls:
            client.tls_set_context(self.options.tls.context())
        if address.is_web:
            client.ws_set_options(path=address.path)
        if self.options.will is not None:
            will = MqttProperties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
            will.MessageExpiryInterval = self.options.will.properties.expiry
            client.will_set(self.options.will.topic, self.options.will.payload, 1, True, will)
        client.connect_timeout = CONNECT_TIMEOUT
        client.max_inflight_messages_set(0)
        attempt = self._attempt
        client.on_socket_open = self._opened
        client.on_socket_close = self._closed
        # With this, packets are written by `_flush` alone.
        client.on_socket_register_write = lambda *_: None
        client.on_connect = lambda c, data, flags, reason, properties: self._connack(attempt, flags, reason, properties)
        client.on_disconnect = lambda c, data, flags, reason, properties: self._disconnected(attempt, flags, reason)
        client.on_message = lambda c, data, message: self._received(message)
        client.on_publish = lambda c, data, mid, reason, properties: self._puback(mid, reason, properties)
        client.on_subscribe = lambda c, data, mid, reasons, properties: self._suback(mid, reasons)
        client.on_unsubscribe = lambda c, data, mid, reasons, properties: self._unsubscribing.pop(mid, lambda: None)()
        return client

    def _dial(self, client: MqttClient, address: Address, attempt: int) -> None:
        properties = MqttProperties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = LARGEST_PACKET
        try:
            client.connect(
                address.host, address.port or 1, self.options.keep_alive, clean_start=True, properties=properties
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the next address is tried
            self.loop.post(self._lost, attempt, str(error) or type(error).__name__)
            return
        self.loop.post(self._dialled, client, attempt)

    def _dialled(self, client: MqttClient, attempt: int) -> None:
        if attempt != self._attempt or self._closing:
            self._close_socket(client)
            return
        self._socket = client.socket()
        if self._socket is not None:
            self.loop.watch(self._socket, self._ready, True)

    def _opened(self, client: MqttClient, data: object, sock: Any) -> None:
        # Without it each call waits for TCP's delayed acknowledgement: see "Latency" in PROTOCOL.md.
        raw = getattr(sock, "_socket", sock)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, AttributeError):
            # A unix socket has no such option.
            pass

    def _closed(self, client: MqttClient, data: object, sock: Any) -> None:
        self.loop.forget(sock)
        if sock is self._socket:
            self._socket = None

    def _ready(self, events: int) -> None:
        client = self._client
        if client is None:
            return
        if events & selectors.EVENT_WRITE:
            self._write(client)
        if events & selectors.EVENT_READ:
            self._read(client)

    def _read(self, client: MqttClient) -> None:
        # A WebSocket or TLS may hold packets that the selector does not know of.
        rounds = 16 if self.address.is_web else 1
        while rounds and client is self._client and self._socket is not None:
            rounds -= 1
            if client.loop_read() != 0:
                self._lost(self._attempt, self._reason)
                return
            pending = getattr(self._socket, "pending", None) if client is self._client else None
            if self.address.is_tls and pending is not None and pending() > 0:
                rounds = max(rounds, 1)

    def _write(self, client: MqttClient) -> None:
        if client.loop_write() != 0 and client is self._client:
            self._lost(self._attempt, self._reason)

    def _flush(self) -> None:
        client = self._client
        if client is None or self._socket is None:
            return
        if client.want_write():
            self._write(client)
        if self._client is client and self._socket is not None:
            self.loop.watch(self._socket, self._ready, client.want_write())

    def _connack(
        self, attempt: int, flags: ConnectFlags, reason: ReasonCode, properties: Optional[MqttProperties]
    ) -> None:
        if attempt != self._attempt:
            return
        if reason.is_failure:
            said = getattr(properties, "ReasonString", None)
            self._said = said or ""
            self._reason = f"{reason.getName()}{f' ({said})' if said else ''}"
            self._code = reason.value
            return
        self._window = min(getattr(properties, "ReceiveMaximum", 0xFFFF), 0x7FFF)
        self._largest = getattr(properties, "MaximumPacketSize", 0xFFFFFFFF)
        words = [value for name, value in getattr(properties, "UserProperty", []) if name == "rantai"]
        self.features = frozenset(word.strip() for word in ",".join(words).split(",") if word.strip())
        if self._deadline is not None:
            self._deadline.cancel()
        self._reason = "the connection was closed"
        self._code = None
        self._failures = 0
        self._next_address = 0
        self.online = True
        self.loop.call_later(1.0, self._tick, attempt)
        self._handler.connected()

    def _tick(self, attempt: int) -> None:
        if attempt == self._attempt and self._client is not None:
            if self._client.loop_misc() != 0:
                self._lost(attempt, "the broker does not answer any more")
            else:
                self.loop.call_later(1.0, self._tick, attempt)

    def _disconnected(self, attempt: int, flags: DisconnectFlags, reason: ReasonCode) -> None:
        if attempt == self._attempt and flags.is_disconnect_packet_from_server:
            self._code = reason.value
            self._reason = f"the broker ended the connection: {reason.getName()}"

    def _received(self, message: MQTTMessage) -> None:
        try:
            self._handler.received(_message(message))
        except Exception:
            logger.exception("cannot handle a message")

    def _puback(self, mid: int, reason: ReasonCode, properties: Optional[MqttProperties]) -> None:
        acknowledged, size = self._unacknowledged.pop(mid, (None, 0))
        self.unsent_bytes -= size
        if acknowledged is not None:
            try:
                acknowledged(reason.value, getattr(properties, "ReasonString", "") or "")
            except Exception:
                logger.exception("cannot handle a PUBACK")
        self._send_queued()

    def _suback(self, mid: int, reasons: list[ReasonCode]) -> None:
        done = self._subscribing.pop(mid, None)
        if done is not None:
            done([reason.value for reason in reasons])

    def _send_queued(self) -> None:
        while self._queued and len(self._unacknowledged) < self._window:
            message, acknowledged = self._queued.popleft()
            mid = self._send(message)
            self._unacknowledged[mid] = (acknowledged, len(message.payload) + len(message.topic) + 1024)

    def _send(self, message: Publish) -> int:
        assert self._client is not None
        packed = _Packed(message.properties)
        return self._client.publish(message.topic, message.payload, message.qos, message.retain, packed).mid

    def _lost(self, attempt: int, reason: str) -> None:
        if attempt != self._attempt or self._closing:
            return
        client, self._client = self._client, None
        was_online, final = self.online, self._code in _FINAL and not self.online
        self._attempt += 1
        self._drop(client)
        if was_online:
            logger.info("%s: the connection to %s was lost: %s", self.options.client_id, self.address, self._reason)
            self._handler.disconnected()
            if self._closing:
                return
        if self._code is not None and not was_online:
            reason = self._reason
        # A Reason String says what to do.
        is_login = self._code == 0x86 or (self._code == 0x87 and not self._said)
        hint = "; check user and password" if is_login else ""
        self._fail(ConnectError(f"cannot connect to {self.address}: {reason}{hint}"), final)

    def _fail(self, error: ConnectError, final: bool) -> None:
        """Tries the next address, or the first one again after a random time."""
        self._handler.ended(error) if final and len(self.options.addresses) == 1 else self._retry(error)

    def _retry(self, error: ConnectError) -> None:
        self._next_address = (self._next_address + 1) % len(self.options.addresses)
        delay = 0.0
        if self._next_address == 0:
            delay = random.uniform(0, min(60.0, 2.0**self._failures))  # noqa: S311 - no secret
            self._failures = min(self._failures + 1, 6)
        logger.debug("%s; trying again in %.1f s", error, delay)
        self.last_error = error
        self.loop.call_later(delay, self._open_again)

    def _open_again(self) -> None:
        if not self._closing and self._client is None:
            self._reason, self._code = "the connection was closed", None
            self.open()

    def _drop(self, client: Optional[MqttClient]) -> None:
        """Closes a connection, and tells what was on its way that it is lost."""
        self.online = False
        self.features = frozenset()
        if self._deadline is not None:
            self._deadline.cancel()
        if client is not None:
            self._close_socket(client)
        self._socket = None
        lost = [acknowledged for acknowledged, _ in self._unacknowledged.values()]
        lost += [acknowledged for _, acknowledged in self._queued]
        subscribing, unsubscribing = list(self._subscribing.values()), list(self._unsubscribing.values())
        self._unacknowledged.clear()
        self._queued.clear()
        self._subscribing.clear()
        self._unsubscribing.clear()
        self.unsent_bytes = 0
        for acknowledged in lost:
            if acknowledged is not None:
                acknowledged(None, "")
        for done in subscribing:
            done(None)
        for ended in unsubscribing:
            ended()

    def _close_socket(self, client: MqttClient) -> None:
        """Closes a socket without DISCONNECT, so that the broker publishes the will."""
        sock = client.socket()
        if sock is not None:
            self.loop.forget(sock)
            try:
                sock.close()
            except OSError:
                pass
