"""Replies: results and errors in plain and in JSON-RPC form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, List, Optional, Tuple, Union

from ..faults import BrokenObject, Fault, InvalidRequest, too_large
from . import text
from .message import BINARY, Properties


@dataclass(frozen=True)
class JsonRpc:
    """JSON-RPC form of a request, with its `id`."""

    id: Any


#: Form of a request and its reply: None is the plain form.
Form = Optional[JsonRpc]


@dataclass(frozen=True)
class Reply:
    """A reply, ready to be published."""

    payload: bytes
    status: str
    binary: bool = False
    further: List[Tuple[str, str]] = field(default_factory=list)

    def again(self) -> Reply:
        """Returns the reply marked as a repetition."""
        return replace(self, further=[*self.further, ("dup", "1")])

    def with_property(self, name: str, value: str) -> Reply:
        """Returns the reply with a further user property."""
        return replace(self, further=[*self.further, (name, value)])

    def properties(self, node: str, correlation: Optional[bytes]) -> Properties:
        """Returns the properties of the message."""
        return Properties(
            correlation=correlation,
            content_type=BINARY if self.binary else None,
            user=[("status", self.status), ("node", node), *self.further],
        )


def result(value: Any, form: Form, limit: int) -> Reply:
    """Creates the reply of a result; bytes are binary. One of more than `limit` bytes becomes the error -32007."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        if form is not None:
            return error(InvalidRequest("the result is binary: call it in plain form"), form)
        reply = Reply(bytes(value), "ok", binary=True)
    else:
        try:
            plain = text.portable(value)
            payload = text.write(plain if form is None else {"jsonrpc": "2.0", "id": form.id, "result": plain})
        except (TypeError, ValueError) as problem:
            return error(BrokenObject(f"the result cannot be written: {problem}"), form)
        reply = Reply(payload, "ok")
    return reply if len(reply.payload) <= limit else error(too_large(limit), form)


def error(fault: Fault, form: Form) -> Reply:
    """Creates the reply of an error."""
    wire = fault.to_wire()
    try:
        wire = text.portable(wire)
    except (TypeError, ValueError):
        wire = {"code": fault.code, "message": str(fault.message), "data": {"retryable": fault.retryable}}
    members = {"error": wire} if form is None else {"jsonrpc": "2.0", "id": form.id, "error": wire}
    return Reply(text.write(members), str(fault.code))


def read_json_rpc(payload: bytes) -> Any:
    """Parses a response in JSON-RPC form and returns its result. Raises `Fault`."""
    try:
        value = text.read(payload)
    except ValueError as problem:
        raise BrokenObject(f"a reply that cannot be read: {problem}") from None
    members = value if isinstance(value, dict) else {}
    if members.get("error") is not None:
        fault = Fault.from_wire(members["error"])
        raise fault if fault is not None else BrokenObject("an error that cannot be read")
    if "result" not in members:
        raise BrokenObject("a JSON-RPC response with neither result nor error")
    return members["result"]


def read(payload: bytes, properties: Properties) -> Union[Any, bytes]:
    """Parses a reply and returns its result, `bytes` where it is binary. Raises `Fault`.

    A reply without Correlation Data is matched by its `id`, and is in JSON-RPC form.
    """
    if properties.correlation is None:
        return read_json_rpc(payload)
    status = properties.get("status")
    if properties.content_type == BINARY or not payload:
        return bytes(payload)
    try:
        value = text.read(payload)
    except ValueError as problem:
        raise BrokenObject(f"a reply that cannot be read: {problem}") from None
    if status == "ok":
        return value
    if status is None and not (isinstance(value, dict) and len(value) == 1 and "error" in value):
        return value
    fault = Fault.from_wire(value.get("error") if isinstance(value, dict) else None)
    raise fault if fault is not None else BrokenObject("an error that cannot be read")
