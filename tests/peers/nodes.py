"""Nodes as processes of `rantai serve`, and a caller that implements PROTOCOL.md without our libraries."""

import itertools
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time

from brokers import ADMIN, CALLER, NODE, rantai_binary
from clients import Client
from tap import PATIENCE

RING = ("bandung", "lembang", "subang")


def city(name):
    """Returns the name of the object of a link of the chain in config/nodes.toml."""
    return f"example.chainTopology.{name}"


class Process:
    """A running process of the binary, with its stderr."""

    def __init__(self, *arguments, **variables):
        self.log = []
        self._changed = threading.Condition()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RANTAI_")} | variables
        command = [rantai_binary(), *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for_log(self, pattern):
        """Returns the first line on stderr that matches `pattern`."""
        found = None

        def search():
            nonlocal found
            found = next(filter(None, (re.search(pattern, line) for line in self.log)), None)
            return found or not self._reader.is_alive()

        with self._changed:
            self._changed.wait_for(search, PATIENCE)
            assert found, f"the node did not say {pattern!r}:\n" + "".join(self.log[-30:])
            return found

    def kill(self):
        """Kills the process, without a DISCONNECT."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self):
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def close(self):
        """Stops the process by SIGTERM, so that it removes its entries from the bus; by SIGKILL if that does not end
        it."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(PATIENCE)

    def _read(self):
        for line in self.process.stderr:
            with self._changed:
                self.log.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def user_on(root, user):
    """Returns the user that logs in there: the roles of `user` apply to the broker's bus, and only an admin has rights
    on other roots."""
    return user if root == "rantai" else ADMIN


class Node(Process):
    """A running `rantai serve`. The constructor returns once it has reported that it serves the names in `serving`."""

    def __init__(self, broker, *names, node=None, root="rantai", config=None, replica=False, replace=False, serving=None, port=None):
        self.node = node
        command = ["serve", "--root", root, *names]
        command += ["--node", node] if node else []
        command += ["--config", config] if config else []
        command += ["--replica"] if replica else []
        command += ["--replace"] if replace else []
        super().__init__(*command, RANTAI_BROKER=broker.url(user_on(root, NODE), port), **broker.environment())
        try:
            for name in names if serving is None else serving:
                self.node = self.wait_for_log(rf"^serving {re.escape(name)} on node (\S+)$")[1]
        except BaseException:
            self.close()
            raise


class Bus:
    """A broker with every object of config/nodes.toml on it: one process for each city of the ring, the other objects
    on one node."""

    def __init__(self, broker):
        self.broker = broker
        self.port = broker.port
        self.kind = broker.kind
        self.transport = broker.transport
        self.login = broker.login
        self._nodes = {}

    def start(self):
        starting = [threading.Thread(target=self._start, args=one) for one in self._plan()]
        for one in starting:
            one.start()
        for one in starting:
            one.join()
        assert len(self._nodes) == len(self._plan()), sorted(self._nodes)

    def city(self, name):
        """Returns the process that serves this city."""
        return self._nodes[name]

    def restart(self, name):
        """Starts the process of one city again, with the same client id."""
        self._start(name, [city(name)])

    def close(self):
        for node in self._nodes.values():
            node.close()

    def _plan(self):
        return [(name, [city(name)]) for name in RING] + [("workshop", ["echo", "calculator", "server"])]

    def _start(self, node, names):
        self._nodes[node] = Node(self.broker, *names, node=node)


class Reply:
    """A reply, from its message."""

    def __init__(self, message):
        self.message = message
        self.topic = message.topic
        self.payload = message.payload
        self.correlation = message.properties.get("CorrelationData")
        self.user = dict(message.properties.get("UserProperty", []))
        # Where users log in, the broker says whose word it is.
        self.caller = self.user.pop("caller", None)
        self.node = self.user.get("node")
        self.status = self.user.get("status")

    def __repr__(self):
        return f"Reply({self.topic} {self.payload[:300]!r} {self.user} {self.correlation})"

    @property
    def json(self):
        return json.loads(self.payload)

    @property
    def result(self):
        assert self.status == "ok", self
        return self.json

    @property
    def error(self):
        """Returns the error of a plain reply, after the checks that apply to every error."""
        answer = self.json
        assert list(answer) == ["error"], self
        check_error(answer["error"])
        assert self.status == str(answer["error"]["code"]), self
        return answer["error"]

    @property
    def code(self):
        return self.error["code"]


def check_error(error):
    assert set(error) == {"code", "message", "data"}, error
    assert type(error["code"]) is int and error["message"] and type(error["data"]["retryable"]) is bool, error


class Caller:
    """A caller with one reply subscription, in MQTT 5."""

    _numbers = itertools.count()

    def __init__(self, broker, root="rantai", client_id=None):
        self.id = client_id or f"caller{next(self._numbers)}"
        self.root = root
        self.client = Client(broker, self.id, user=broker.login(user_on(root, CALLER)))
        assert self.client.connect().reason == 0
        assert self.client.subscribe(f"{root}/reply/+/{self.id}", qos=1) == [1]

    def close(self):
        self.client.close()

    def reply_topic(self, object):
        return f"{self.root}/reply/{object}/{self.id}"

    def send(self, target, payload=b"", reply=True, via="call", retain=False, user=(), **properties):
        """Publishes a request to `{object}/{method}` or `{object}`; does not wait for its reply."""
        if not isinstance(payload, (bytes, str)):
            payload = json.dumps(payload)
        if reply:
            given = reply if isinstance(reply, str) else self.reply_topic(target.split("/")[0])
            properties["ResponseTopic"] = given
        if user:
            properties["UserProperty"] = list(user.items() if isinstance(user, dict) else user)
        return self.client.publish(f"{self.root}/{via}/{target}", payload, qos=1, retain=retain, **properties)

    def call(self, target, payload=b"", **options):
        """Sends a request; returns its reply, whose correlation must be that of the request."""
        options.setdefault("CorrelationData", b"%d" % next(self._numbers))
        self.send(target, payload, **options)
        reply = self.receive()
        assert reply.correlation == options["CorrelationData"], reply
        return reply

    def receive(self):
        """Returns the next reply."""
        return Reply(self.client.receive())

    def silence(self, target="echo/echo", payload="over", **options):
        """Asserts that no reply is in transit: the reply to a request sent now is the next message."""
        mark = b"mark%d" % next(self._numbers)
        self.send(target, payload, CorrelationData=mark, **options)
        got = self.receive()
        assert got.correlation == mark, f"expected silence, got {got}"
        return got

    def stats(self, object, **options):
        return self.call(f"{object}/rpc.stats", **options).result

    def calls(self, target, **options):
        """Returns how many calls of a method were executed."""
        object, method = target.split("/")
        return self.stats(object, **options)["methods"].get(method, {}).get("calls", 0)

    def refused(self, object):
        """Returns how many requests were refused or ignored, for any reason."""
        return sum(self.stats(object)["refused"].values())


class Watch:
    """The latest message on every topic that matches a filter; None if it was cleared."""

    def __init__(self, broker, *filters):
        self.client = Client(broker)
        assert self.client.connect().reason == 0
        self.latest = {}
        self.history = []
        assert self.client.subscribe(*filters, qos=1) == [1] * len(filters)

    def close(self):
        self.client.close()

    def until(self, condition, what="the condition"):
        """Waits until `condition(self)` is true; returns its value."""
        end = time.monotonic() + PATIENCE
        while not (found := condition(self)):
            left = end - time.monotonic()
            assert left > 0, f"{what} did not come true; saw {self.history[-20:]}"
            try:
                message = self.client.messages.get(timeout=left)
            except queue.Empty:
                continue
            value = json.loads(message.payload) if message.payload else None
            self.latest[message.topic] = value
            self.history.append((message.topic, value))
        return found

    def value(self, topic, **parts):
        """Waits until `topic` has a value with these parts; returns the value."""

        def holds(watch):
            value = watch.latest.get(topic)
            return value is not None and all(value.get(k) == v for k, v in parts.items()) and value

        return self.until(holds, f"{topic} with {parts}")

    def cleared(self, topic):
        self.until(lambda watch: watch.latest.get(topic, ...) is None, f"{topic} cleared")
