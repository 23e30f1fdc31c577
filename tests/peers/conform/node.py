"""A node of level "node", written with paho from PROTOCOL.md: node.py URL NAME NODE [FAULT]. It serves the object of
docs/protocol/cases. With a FAULT it violates one rule, which the conformance kit has to find."""

import json
import secrets
import sys
import threading
import time
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

#: What is wrong with the node, and a case that finds it.
FAULTS = {
    "no-correlation": "a result, once, with the correlation of its request",
    "two-replies": "a result, once, with the correlation of its request",
    "no-status": "parameters by position",
    "any-reply-topic": "a reply topic that is none",
    "dies-of-bytes": "whatever comes, the next request is replied to",
    "late-reply": "past the deadline nothing is sent",
    "no-identity": "a repeat gets the reply of the first",
    "no-expiry": "the registry",
    "answers-oneway": "a oneway request",
    "private-methods": "a private method",
    "floats": "5.0 is an integer, and is written as 5",
    "no-id": "a request and its response",
}
LARGEST, DAY, ROOT = 1 << 20, 86_400, "rantai"
NUMBER, STRING, INTEGER = {"type": "number"}, {"type": "string"}, {"type": "integer"}
BINARY, ANY = {"type": "string", "format": "binary"}, {}


class Fault(Exception):
    def __init__(self, code, message, **data):
        self.error = {"code": code, "message": message, "data": {"retryable": False, **data}}


class Cases:
    """The object: each method with the schemas of its parameters."""

    methods = {
        "add": {"a": NUMBER, "b": NUMBER},
        "whole": {"number": INTEGER},
        "say": {"text": STRING},
        "echo": {"value": ANY},
        "fail": {"kind": STRING},
        "size": {"data": BINARY},
        "blob": {"count": INTEGER},
        "wait": {"ms": INTEGER},
        "runs": {},
        "count": {"to": INTEGER},
    }
    optional = ("echo",)

    def __init__(self):
        self._runs = 0

    def add(self, a, b):
        return a + b

    def whole(self, number):
        return number

    def say(self, text):
        return text

    def echo(self, value=None):
        return value

    def fail(self, kind):
        raise Fault(-32000, "as asked", kind=kind)

    def size(self, data):
        return len(data)

    def blob(self, count):
        return b"x" * count

    def wait(self, ms):
        self._runs += 1
        time.sleep(ms / 1000)

    def runs(self):
        return {"runs": self._runs}

    def count(self, to):
        return list(range(to))

    def _add(self, a, b):
        return a + b


def finite(text):
    if float(text) in (float("inf"), float("-inf")):
        raise ValueError(text)
    return float(text)


def parsed(text):
    return json.loads(text, parse_float=finite, parse_constant=finite)


class Request:
    """A received request, and its reply topic."""

    def __init__(self, message):
        properties = message.properties
        self.topic, self.payload = message.topic.split("/")[1:], message.payload
        self.user = dict(getattr(properties, "UserProperty", []))
        self.reply_to = getattr(properties, "ResponseTopic", None)
        self.correlation = getattr(properties, "CorrelationData", None)
        self.is_binary = getattr(properties, "ContentType", "") == "application/octet-stream"
        self.expiry = getattr(properties, "MessageExpiryInterval", None)
        self.is_rpc, self.id, self.method, self.params = False, None, None, None
        self.is_silent = self.user.get("oneway") == "1" and FAULT != "answers-oneway"
        self.received = time.monotonic()

    def read(self):
        """Reads method and parameters: a list, a dict, or None for none."""
        kind, *names = self.topic
        names = names[1:] if kind == "at" else names
        if len(names) > 2:
            raise Fault(-32600, "too many levels in the topic")
        self.object = names[0]
        if len(names) == 1:
            self.read_rpc()
            return
        self.method = names[1]
        if self.is_binary:
            self.params = [self.payload]
        elif self.payload:
            self.params = self.plain()

    def plain(self):
        try:
            text = self.payload.decode()
        except ValueError:
            if FAULT == "dies-of-bytes":
                raise
            raise Fault(-32700, "not UTF-8") from None
        try:
            value = parsed(text)
        except (ValueError, RecursionError):
            if text.lstrip(" \t\r\n\ufeff")[:1] in ("[", "{"):
                raise Fault(-32700, "not JSON") from None
            return [text]
        if isinstance(value, (list, dict)):
            return value
        # A bare number is the text of a method whose one parameter is text.
        schemas = list(Cases.methods.get(self.method, {}).values())
        return [value if isinstance(value, str) or schemas != [STRING] else text]

    def read_rpc(self):
        self.is_rpc = True
        try:
            request = parsed(self.payload)
        except (ValueError, RecursionError):
            raise Fault(-32700, "not JSON") from None
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            raise Fault(-32600, "not a JSON-RPC request; batches are not taken")
        self.id, self.method, self.params = request.get("id"), request["method"], request.get("params")
        self.reply_to = self.reply_to or request.get("reply_to")
        self.is_silent = self.is_silent or "id" not in request
        if "ttl_ms" in request:
            self.user.setdefault("ttl_ms", str(request["ttl_ms"]))
        if self.params is not None and not isinstance(self.params, (list, dict)):
            raise Fault(-32600, "`params` is an array or an object")

    def deadline(self):
        """Returns the seconds left since the request was received."""
        ttl = self.user.get("ttl_ms", "30000")
        if not ttl.isascii() or not ttl.isdigit():
            raise Fault(-32602, "ttl_ms is a number of milliseconds", path="ttl_ms", expected="milliseconds")
        return min(int(ttl) / 1000, self.expiry or 3600, 3600)

    def identity(self):
        key = self.correlation or (self.id.encode() if isinstance(self.id, str) else b"")
        return (self.reply_to, key) if len(key) >= 16 and FAULT != "no-identity" else None

    def has_reply_topic(self):
        topic = self.reply_to or f"{ROOT}/reply/{self.topic[-1]}"
        is_own = topic.startswith(f"{ROOT}/reply/") or FAULT == "any-reply-topic"
        return is_own and not set("+#") & set(topic) and len(topic) <= 256 and len(self.correlation or b"") <= 64


def checked(value, schema, name):
    kind = schema.get("type")
    if schema is BINARY:
        right = isinstance(value, bytes)
    elif kind == "integer":
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value)
        value = int(value) if right and FAULT != "floats" else value
    elif kind == "number":
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        right = kind is None or isinstance(value, str)
    if not right:
        raise Fault(-32602, f"{name}: expected {kind or 'bytes'}", path=name, expected=kind or "bytes")
    return value


def arguments(method, params):
    schemas, required = Cases.methods[method], method not in Cases.optional
    names = list(schemas)
    if isinstance(params, list):
        if len(params) > len(names):
            raise Fault(-32602, f"expected {len(names)} parameters, got {len(params)}", path="", expected=names)
        params = dict(zip(names, params))
    for name in params or {}:
        if name not in names:
            raise Fault(-32602, f"no parameter {name}", path=name, expected=names)
    for name in names:
        if required and name not in (params or {}):
            raise Fault(-32602, f"{name} is missing", path=name, expected=schemas[name].get("type", "a value"))
    return {name: checked(value, schemas[name], name) for name, value in (params or {}).items()}


class Node:
    def __init__(self, url, name, node):
        self.name, self.id, self.epoch, self.object = name, node, secrets.token_hex(4), Cases()
        self.seen, self.lock = {}, threading.Lock()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, node, protocol=mqtt.MQTTv5)
        self.client.on_connect, self.client.on_message = self.connected, self.requested
        self.client.will_set(f"{ROOT}/node/{node}", self.state("lost"), 1, True, self.properties(DAY))
        where = urlsplit(url)
        if where.username:
            self.client.username_pw_set(where.username, where.password)
        self.client.connect(where.hostname, where.port)

    def entry(self):
        own = {"v": 1, "object": self.name, "node": self.id, "epoch": self.epoch, "mode": "exclusive", "settled": True}
        return own | {"version": "1.0.0", "methods": list(Cases.methods)}

    def state(self, state):
        return json.dumps({"v": 1, "state": state, "epoch": self.epoch})

    def properties(self, expiry=None):
        properties = Properties(PacketTypes.PUBLISH)
        if expiry and FAULT != "no-expiry":
            properties.MessageExpiryInterval = expiry
        return properties

    def connected(self, client, _data, _flags, _reason, _properties):
        live = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        filters = (f"$share/{self.name}/{ROOT}/call/{self.name}/#", f"{ROOT}/at/{self.id}/#", f"{ROOT}/all/{self.name}/#")
        client.subscribe([(one, live) for one in filters])
        client.publish(f"{ROOT}/name/{self.name}/{self.id}", json.dumps(self.entry()), 1, True, self.properties(DAY))
        client.publish(f"{ROOT}/node/{self.id}", self.state("ready"), 1, True, self.properties(DAY))

    def requested(self, _client, _data, message):
        if not message.retain:
            # Each on a thread of its own: a method may wait.
            threading.Thread(target=self.carry_out, args=(Request(message),), daemon=True).start()
            if FAULT == "dies-of-bytes":
                message.payload.decode()

    def carry_out(self, request):
        try:
            request.read()
            left = request.deadline()
            if left <= 0:
                return
            result, is_repeat = self.once(request)
        except Fault as fault:
            self.reply(request, fault=fault.error)
            return
        is_late = time.monotonic() > request.received + left and FAULT != "late-reply"
        if not is_late and isinstance(result, Fault):
            self.reply(request, fault=result.error, dup=is_repeat)
        elif not is_late:
            self.reply(request, result, dup=is_repeat)

    def once(self, request):
        """Returns the result of the method, and whether it was known already."""
        identity = request.identity()
        if identity is None or not request.has_reply_topic():
            return self.call(request), False
        same = (request.method, request.payload)
        with self.lock:
            first = identity not in self.seen
            asked, done, outcome = self.seen.setdefault(identity, (same, threading.Event(), []))
        if asked != same:
            raise Fault(-32014, "another request had this correlation")
        if not first:
            done.wait()
            return outcome[0], True
        try:
            outcome.append(self.call(request))
        except Fault as fault:
            outcome.append(fault)
        done.set()
        return outcome[0], False

    def call(self, request):
        if request.object != self.name:
            raise Fault(-32003, f"no object {request.object} on this node")
        if not request.has_reply_topic():
            raise Fault(-32600, "no reply topic")
        if request.method.startswith("rpc."):
            return self.built_in(request.method)
        known = request.method in Cases.methods
        if FAULT == "private-methods" and request.method == "_add":
            return self.object._add(*request.params)
        if not known:
            raise Fault(-32601, f"no method {request.method}", did_you_mean=list(Cases.methods)[:3])
        return getattr(self.object, request.method)(**arguments(request.method, request.params))

    def built_in(self, method):
        if method == "rpc.ping":
            return "pong"
        if method == "rpc.info":
            return self.entry()
        if method == "rpc.discover":
            return self.document()
        raise Fault(-32601, f"no method {method}", did_you_mean=["rpc.ping", "rpc.info", "rpc.discover"])

    def document(self):
        def described(name, schemas):
            params = [{"name": one, "required": name not in Cases.optional, "schema": s} for one, s in schemas.items()]
            return {"name": name, "params": params, "result": {"name": "result", "schema": BINARY if name == "blob" else ANY}}

        methods = [described(name, schemas) for name, schemas in Cases.methods.items()]
        return {"openrpc": "1.3.2", "info": {"title": self.name, "version": "1.0.0"}, "methods": methods}

    def reply(self, request, result=None, fault=None, dup=False):
        if request.is_silent or not request.has_reply_topic():
            return
        if isinstance(result, float) and result == int(result) and FAULT != "floats":
            result = int(result)
        payload = result if isinstance(result, bytes) else json.dumps({"error": fault} if fault else result)
        if request.is_rpc:
            answer = {"error": fault} if fault else {"result": result}
            payload = json.dumps({"jsonrpc": "2.0", "id": None if FAULT == "no-id" else request.id, **answer})
        if len(payload) > LARGEST:
            too_large = Fault(-32007, "the result is too large", limit=LARGEST)
            self.reply(request, fault=too_large.error)
            return
        properties = self.properties()
        if request.correlation is not None and FAULT != "no-correlation":
            properties.CorrelationData = request.correlation
        if isinstance(result, bytes):
            properties.ContentType = "application/octet-stream"
        properties.UserProperty = [("node", self.id)] + ([("dup", "1")] if dup else [])
        if FAULT != "no-status":
            properties.UserProperty = [("status", str(fault["code"]) if fault else "ok")]
        topic = request.reply_to or f"{ROOT}/reply/{self.name}"
        for _ in range(2 if FAULT == "two-replies" else 1):
            self.client.publish(topic, payload, 1, properties=properties)


# Only as a program: the tests import the list of faults.
FAULT = sys.argv[4] if __name__ == "__main__" and len(sys.argv) > 4 else None

if __name__ == "__main__":
    Node(*sys.argv[1:4]).client.loop_forever()
