"""Requests, parsed from the plain and the JSON-RPC form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple, Union

from ..faults import Fault, InvalidRequest, ParseError, TrailLimit, wrong_parameter
from . import names, text
from .message import BINARY, Message, Properties
from .reply import Form, JsonRpc
from .topics import CallTopic, Topics

#: Deadline of a request that names none, in milliseconds.
DEFAULT_TTL_MS = 30_000
#: Longest deadline, in milliseconds.
LONGEST_TTL_MS = 3_600_000
#: Longest Correlation Data, in bytes.
LONGEST_CORRELATION = 64
#: Shortest Correlation Data that identifies a request, in bytes.
IDENTIFYING = 16
#: Largest trail, in bytes of JSON.
LARGEST_TRAIL = 4 << 10
#: Largest unused credit of a stream, in bytes.
LARGEST_CREDIT = 1 << 20

_DIGITS = re.compile(r"[0-9]+\Z")


@dataclass(frozen=True)
class One:
    """A single parameter: its value, and its text for a method that takes a text."""

    value: Any
    text: str


#: Parameters before they are converted: none, by position, by name, one, or binary.
Params = Union[None, List[Any], Dict[str, Any], One, bytes]


@dataclass(frozen=True)
class Request:
    """A request of either form."""

    method: str
    params: Params
    form: Form
    #: Reply topic; None where no reply is wanted.
    reply_to: Optional[str]
    correlation: Optional[bytes]
    ttl_ms: int
    has_deadline: bool
    trail: List[Any]
    traceparent: Optional[str]
    #: First credit in bytes, where the caller asked for a stream.
    stream: Optional[int]
    caller: Optional[str]
    via: Optional[str]

    def identity(self) -> Optional[Tuple[str, bytes, int]]:
        """Returns what identifies the request to its object; None where its correlation is too short."""
        if self.reply_to is None:
            return None
        key = self.correlation
        if key is None and self.form is not None and isinstance(self.form.id, str):
            key = self.form.id.encode()
        if key is None or len(key) < IDENTIFYING:
            return None
        return self.reply_to, key, len(self.trail)


class Silent(Exception):
    """The request names no valid reply topic: it is counted, and not answered."""


class Refused(Exception):
    """The request is answered with a fault."""

    def __init__(self, fault: Fault, form: Form, reply_to: Optional[str], correlation: Optional[bytes]) -> None:
        super().__init__(str(fault))
        self.fault, self.form, self.reply_to, self.correlation = fault, form, reply_to, correlation


def misdirected(topics: Topics, properties: Properties, fault: Fault) -> Refused:
    """Returns the refusal of a request on an invalid topic. Raises `Silent` where nobody can be told."""
    named, correlation = properties.response_topic, properties.correlation
    short = correlation is None or len(correlation) <= LONGEST_CORRELATION
    if named is None or not topics.is_reply_topic(named) or not short or properties.get("oneway") == "1":
        raise Silent("a topic that is none for requests")
    return Refused(fault, None, named, correlation)


def plain_params(payload: bytes) -> Params:
    """Parses the parameters of a request in plain form. Raises `Fault`."""
    if not payload:
        return None
    try:
        decoded = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise ParseError(f"not UTF-8; binary parameters have the content type {BINARY}") from None
    try:
        value = text.read(payload)
    except ValueError as error:
        if isinstance(error, text.NotJson) and text.is_plain_text(decoded):
            return One(decoded, decoded)
        raise text.fault(error) from None
    return value if isinstance(value, (list, dict)) else One(value, decoded)


def to_json_rpc(method: str, payload: bytes, id: str, reply_to: str, ttl_ms: int) -> bytes:
    """Converts a request in plain form to JSON-RPC form; one without an `id` gets no reply. Raises `Fault`."""
    params = plain_params(payload)
    if isinstance(params, One):
        params = [params.value]
    members = {"jsonrpc": "2.0", "method": method, "params": params or [], "ttl_ms": ttl_ms}
    return text.write({**members, "id": id, "reply_to": reply_to} if id else members)


class _Envelope:
    """What is known of a request before its payload is parsed."""

    def __init__(
        self, topics: Topics, topic: CallTopic, message: Message, reply_to: object, features: frozenset[str]
    ) -> None:
        properties = message.properties
        self.properties = properties
        self.correlation = properties.correlation
        if self.correlation is not None and len(self.correlation) > LONGEST_CORRELATION:
            raise Silent("correlation data of more than 64 bytes")
        named = properties.response_topic
        # A broker with reply grants ensures a Response Topic; `reply_to` could name another client's.
        if named is None and isinstance(reply_to, str) and "grants" not in features:
            named = reply_to
        if named is None:
            named = topics.public_reply(topic.object)
        elif not topics.is_reply_topic(named):
            raise Silent("a reply topic outside {root}/reply/")
        self.reply_to: Optional[str] = None if properties.get("oneway") == "1" else named
        vouched = "caller" in features
        self.caller = properties.get("caller") if vouched else None
        self.via = properties.get("via") if vouched else None

    def refusal(self, form: Form, fault: Fault) -> Refused:
        return Refused(fault, form, self.reply_to, self.correlation)

    def ttl(self, form: Form, member: object) -> Tuple[int, bool]:
        """Returns the time left in milliseconds, and whether the request named it."""
        named = self.properties.get("ttl_ms")
        ttl: Optional[int] = None
        if named is not None:
            if not _DIGITS.match(named) or len(named) > 18:
                raise self.refusal(form, wrong_parameter("ttl_ms", "whole milliseconds"))
            ttl = int(named)
        elif member is not None:
            if not isinstance(member, int) or isinstance(member, bool) or member < 0:
                raise self.refusal(form, wrong_parameter("ttl_ms", "whole milliseconds"))
            ttl = member
        expiry = self.properties.expiry
        if expiry is not None:
            ttl = expiry * 1000 if ttl is None else min(ttl, expiry * 1000)
        return min(DEFAULT_TTL_MS if ttl is None else ttl, LONGEST_TTL_MS), ttl is not None

    def trail(self, form: Form, member: object) -> List[Any]:
        named, trail, size = self.properties.get("trail"), member, 0
        if named is not None:
            size = len(named.encode())
            trail = None
            if size <= LARGEST_TRAIL:
                try:
                    trail = text.read(named.encode())
                except ValueError:
                    trail = None
        elif member is None:
            trail = []
        else:
            size = len(text.write(member))
        if size > LARGEST_TRAIL:
            fault = TrailLimit(f"a trail of {size} bytes; {LARGEST_TRAIL} are the limit", trail=[])
            raise self.refusal(form, fault)
        if not isinstance(trail, list):
            raise self.refusal(form, wrong_parameter("trail", "an array of hops"))
        return trail

    def request(self, method: str, params: Params, form: Form, members: Dict[str, Any]) -> Request:
        ttl_ms, has_deadline = self.ttl(form, members.get("ttl_ms"))
        trail = self.trail(form, members.get("trail"))
        stream = self.properties.get("stream") if form is None else None
        credit = None
        if stream is not None and _DIGITS.match(stream):
            credit = min(int(stream[:18]), LARGEST_CREDIT)
        return Request(
            method,
            params,
            form,
            self.reply_to,
            self.correlation,
            ttl_ms,
            has_deadline,
            trail,
            self.properties.get("traceparent"),
            credit,
            self.caller,
            self.via,
        )


def read(topics: Topics, topic: CallTopic, message: Message, features: frozenset[str]) -> Request:
    """Parses a message that arrived on `topic`. Raises `Silent` or `Refused`."""
    if topic.method is None:
        return _json_rpc(topics, topic, message, features)
    envelope = _Envelope(topics, topic, message, None, features)
    if message.properties.content_type == BINARY:
        return envelope.request(topic.method, bytes(message.payload), None, {})
    try:
        params = plain_params(message.payload)
    except Fault as fault:
        raise envelope.refusal(None, fault) from None
    return envelope.request(topic.method, params, None, {})


def _json_rpc(topics: Topics, topic: CallTopic, message: Message, features: frozenset[str]) -> Request:
    problem: Optional[Fault] = None
    value: Any = None
    try:
        value = text.read(message.payload)
    except ValueError as error:
        problem = text.fault(error)
    members = value if isinstance(value, dict) else {}
    envelope = _Envelope(topics, topic, message, members.get("reply_to"), features)
    form = JsonRpc(members.get("id"))
    if problem is None:
        problem = _malformed(value)
    if problem is not None:
        if not isinstance(form.id, (str, int, float, type(None))) or isinstance(form.id, bool):
            form = JsonRpc(None)
        raise envelope.refusal(form, problem)
    if "id" not in members:
        envelope.reply_to = None
    return envelope.request(members["method"], members.get("params"), form, members)


def _malformed(value: Any) -> Optional[Fault]:
    """Returns what is wrong with a JSON-RPC request; None where nothing is."""
    if isinstance(value, list):
        return InvalidRequest("a batch: MQTT pipelines by itself, send one by one")
    if not isinstance(value, dict):
        return InvalidRequest("a JSON-RPC request is an object")
    # Many devices leave it out.
    if value.get("jsonrpc", "2.0") != "2.0":
        return InvalidRequest('`jsonrpc` is "2.0"')
    ident = value.get("id")
    if isinstance(ident, bool) or not isinstance(ident, (str, int, float, type(None))):
        return InvalidRequest("`id` is a text or a number")
    method = value.get("method")
    if not isinstance(method, str) or not names.is_method(method):
        return InvalidRequest("`method` is the name of one")
    if not isinstance(value.get("params"), (list, dict, type(None))):
        return InvalidRequest("`params` is an array or an object")
    return None
