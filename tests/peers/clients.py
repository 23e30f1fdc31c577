"""The peers: paho-mqtt as `Client`, mosquitto's programs as `pub`, `sub`, `rr` and `Process`."""

import queue
import subprocess
import threading
from dataclasses import dataclass, field

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

import layers
from brokers import ADMIN, tool
from tap import PATIENCE, SUBACK, Tap


@dataclass(frozen=True)
class Message:
    """A received message."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    mid: int
    properties: dict = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """Reason code and properties of an acknowledgement."""

    reason: int
    properties: dict


@dataclass(frozen=True)
class Connack(Answer):
    session_present: bool


@dataclass(frozen=True)
class Will:
    topic: str
    payload: bytes = b"gone"
    qos: int = 0
    retain: bool = False
    properties: dict = field(default_factory=dict)


class Client:
    """A paho client behind a tap. Every method waits for the broker's answer, for at most `PATIENCE`."""

    def __init__(self, broker, client_id="", version=5, manual_ack=False, will=None, user=None):
        self.version = version
        self.tap = Tap(broker.port, broker.transport)
        self.messages = queue.Queue()
        self._answers = {}
        self._changed = threading.Condition()
        self._aliases = {}
        self._paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5 if version == 5 else paho.MQTTv311,
            clean_session=None if version == 5 else True,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
            transport="websockets" if layers.uses_web(broker.transport) else "tcp",
        )
        if layers.uses_tls(broker.transport):
            self._paho.tls_set(ca_certs=layers.authority())
        if will:
            properties = self._properties(PacketTypes.WILLMESSAGE, will.properties)
            self._paho.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        if user := user or broker.login(ADMIN):
            self._paho.username_pw_set(*user)
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_message = self._on_message
        self._paho.on_publish = lambda _c, _u, mid, reason, p: self._answer(("pub", mid), reason, p)
        self._paho.on_subscribe = lambda _c, _u, mid, reasons, p: self._answer(("sub", mid), reasons, p)
        self._paho.on_unsubscribe = lambda _c, _u, mid, reasons, p: self._answer(("unsub", mid), reasons, p)

    def connect(self, clean=True, keep_alive=60, loop=True, **properties):
        """Connects; returns the CONNACK. `loop=False` stops reading after it, like a client that hangs."""
        # paho tells of the end of a connection before its thread has ended, and starts no other beside that.
        self._paho.loop_stop()
        self._answers.pop("connack", None)
        self._answers.pop("disconnect", None)
        self._aliases.clear()
        if self.version == 5:
            options = {"clean_start": clean, "properties": self._properties(PacketTypes.CONNECT, properties)}
        else:
            # paho reads it once, at construction; a later connection may want it otherwise.
            self._paho._clean_session = clean
            options = {}
        self._paho.connect("127.0.0.1", self.tap.port, keepalive=keep_alive, **options)
        if loop:
            self._paho.loop_start()
            return self._wait("connack")
        while "connack" not in self._answers:
            assert self._paho.loop(PATIENCE) == paho.MQTT_ERR_SUCCESS
        return self._answers["connack"]

    def subscribe(
        self, *filters, qos=0, no_local=False, as_published=False, handling=0, wait=True, **properties
    ):
        """Subscribes to each filter; returns the SUBACK's reason codes, unless `wait` is off."""
        if self.version == 5:
            options = SubscribeOptions(qos, no_local, as_published, handling)
            wanted = [(name, options) for name in filters]
            told = self._properties(PacketTypes.SUBSCRIBE, properties)
            error, mid = self._paho.subscribe(wanted, properties=told)
        else:
            error, mid = self._paho.subscribe([(name, qos) for name in filters])
        assert error == paho.MQTT_ERR_SUCCESS, error
        return self._wait(("sub", mid)).reason if wait else None

    def unsubscribe(self, *filters, **properties):
        """Unsubscribes; returns the UNSUBACK's reason codes, or an empty list in 3.1.1."""
        told = self._properties(PacketTypes.UNSUBSCRIBE, properties)
        _, mid = self._paho.unsubscribe(list(filters), properties=told)
        return self._wait(("unsub", mid)).reason

    def publish(self, topic, payload=b"", qos=0, retain=False, wait=True, **properties):
        """Publishes; returns the final acknowledgement at QoS 1 and 2, unless `wait` is off."""
        told = self._properties(PacketTypes.PUBLISH, properties)
        info = self._paho.publish(topic, payload, qos, retain, told)
        # A connection that is cut in this moment is made again by paho, which then sends the message again.
        kept = not wait and qos > 0 and info.rc == paho.MQTT_ERR_NO_CONN
        assert kept or info.rc == paho.MQTT_ERR_SUCCESS, info.rc
        return self._wait(("pub", info.mid)) if wait else info

    def receive(self):
        """Returns the next message."""
        try:
            return self.messages.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"no message within {PATIENCE} s; last packets: {self.tap}") from None

    def receive_payloads(self, count):
        return [self.receive().payload for _ in range(count)]

    def receive_until(self, payload):
        """Returns every message before the one with this payload, which proves that no others were in transit."""
        before = []
        while (message := self.receive()).payload != payload:
            before.append(message)
        return before

    def acknowledge(self, message):
        self._paho.ack(message.mid, message.qos)

    def disconnect(self, reason=0, **properties):
        """Sends DISCONNECT and waits until the broker has closed the connection."""
        if self.version == 5:
            code = ReasonCode(PacketTypes.DISCONNECT, identifier=reason)
            self._paho.disconnect(code, self._properties(PacketTypes.DISCONNECT, properties))
        else:
            self._paho.disconnect()
        self.disconnected()
        # paho waits neither for the tap, which another connection could overtake, nor for the broker.
        self.tap.wait_for_end()

    def disconnected(self):
        """Waits for the end of the connection; returns the DISCONNECT's reason if the broker sent one, else None."""
        return self._wait("disconnect")

    def cut(self):
        """Breaks the connection without a DISCONNECT, and waits until the broker has noticed."""
        self.tap.cut()
        self.disconnected()
        self.tap.wait_for_end()

    def close(self):
        self.tap.close()
        self._paho.loop_stop()

    def _properties(self, packet, values):
        if self.version != 5:
            assert not values, "MQTT 3.1.1 has no properties"
            return None
        properties = Properties(packet)
        for name, value in values.items():
            setattr(properties, name, value)
        return properties

    def _wait(self, key):
        with self._changed:
            arrived = self._changed.wait_for(lambda: key in self._answers, PATIENCE)
            assert arrived, f"no answer {key} within {PATIENCE} s; last packets: {self.tap}"
            return self._answers[key]

    def _tell(self, key, answer):
        with self._changed:
            self._answers[key] = answer
            self._changed.notify_all()

    def _answer(self, key, reason, properties):
        codes = [code.value for code in reason] if isinstance(reason, list) else reason.value
        self._tell(key, Answer(codes, plain(properties)))

    def _on_connect(self, _client, _userdata, flags, reason, properties):
        self._tell("connack", Connack(reason.value, plain(properties), flags.session_present))

    def _on_disconnect(self, _client, _userdata, flags, reason, properties):
        told = Answer(reason.value, plain(properties)) if flags.is_disconnect_packet_from_server else None
        # paho may call again for the close that follows a DISCONNECT.
        if "disconnect" not in self._answers:
            self._tell("disconnect", told)

    def _on_message(self, _client, _userdata, message):
        properties = plain(message.properties)
        topic = message.topic
        # paho leaves it to its user to remember what an alias stands for.
        if alias := properties.get("TopicAlias"):
            topic = self._aliases.setdefault(alias, topic) if not topic else topic
            self._aliases[alias] = topic
        self.messages.put(
            Message(topic, message.payload, message.qos, message.retain, message.dup, message.mid, properties)
        )


def plain(properties):
    """Returns paho's properties as a dictionary by their names in the standard, without blanks."""
    if properties is None:
        return {}
    names = (name.replace(" ", "") for name in properties.names)
    return {name: getattr(properties, name) for name in names if hasattr(properties, name)}


def run(name, broker, *arguments, stdin=None, code=0):
    """Runs one of mosquitto's programs to its end; returns its output."""
    command = [tool(name), *login(broker), *where(broker, broker.port), *map(str, arguments)]
    stdin = stdin if stdin is not None else b""
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=2 * PATIENCE)
    assert done.returncode == code, f"{command}: {done.returncode}, {done.stderr.decode()}"
    return done.stdout


def where(broker, port):
    """Returns options of mosquitto's programs for a broker, or a tap in front of it. They do not support WebSocket."""
    assert not layers.uses_web(broker.transport), "mark the test: it uses mosquitto's programs"
    trust = ["--cafile", layers.authority()] if layers.uses_tls(broker.transport) else []
    return [*trust, "--unix", port] if isinstance(port, str) else [*trust, "-h", "127.0.0.1", "-p", str(port)]


def login(broker):
    """Returns options by which mosquitto's programs log in, if there are users."""
    user = broker.login(ADMIN)
    return ["-u", user[0], "-P", user[1]] if user else []


def pub(broker, *arguments, **options):
    return run("mosquitto_pub", broker, *arguments, **options)


def sub(broker, *arguments, **options):
    return run("mosquitto_sub", broker, *arguments, **options)


def rr(broker, *arguments, **options):
    return run("mosquitto_rr", broker, *arguments, **options)


class Process:
    """A program of mosquitto's that keeps running, and is subscribed when the constructor returns."""

    def __init__(self, name, broker, *arguments):
        self.tap = Tap(broker.port, broker.transport)
        command = [tool(name), *login(broker), *where(broker, self.tap.port), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.tap.wait(True, SUBACK)

    def output(self, code=0):
        """Waits for the program to end; returns its output."""
        out, err = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == code, f"{self.process.args}: {self.process.returncode}, {err.decode()}"
        return out

    def lines(self, code=0):
        return self.output(code).decode().splitlines()

    def kill(self):
        """Kills the program, without a DISCONNECT."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def close(self):
        if self.process.poll() is None:
            self.kill()
        self.tap.close()
