"""Errors of calls: one exception class for each code of the contract."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Type

#: Codes whose calls may succeed later, unless the error says otherwise.
_RETRYABLE = frozenset({-32001, -32002, -32003, -32004, -32005, -32010})


class Fault(Exception):
    """Error of a call: `code`, `message` for people, and `data`.

    Every code of the contract has a subclass; a code that this version does not know is a plain `Fault`.
    """

    #: Code of the class; 0 in `Fault` itself.
    CODE = 0

    code: int
    message: str
    data: Dict[str, Any]

    def __init__(self, message: str, *, code: Optional[int] = None, **data: Any) -> None:
        super().__init__(message)
        self.code = self.CODE if code is None else code
        self.message = message
        self.data = {"retryable": self.code in _RETRYABLE, **data}

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later. False for unknown codes, whatever their data contain."""
        return self.code in _BY_CODE and self.data.get("retryable", self.code in _RETRYABLE) is True

    @property
    def maybe_executed(self) -> bool:
        """Whether the request may have been carried out, although there was no result."""
        return self.data.get("maybe_executed") is True

    @property
    def kind(self) -> Optional[str]:
        """Kind of the method's own error (`data.kind`)."""
        kind = self.data.get("kind")
        return kind if isinstance(kind, str) else None

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"

    def to_wire(self) -> Dict[str, Any]:
        """Returns the error object of a reply."""
        return {"code": self.code, "message": self.message, "data": self.data}

    @staticmethod
    def of(code: int, message: str, data: Optional[Mapping[str, Any]] = None) -> Fault:
        """Creates the error of a code, of the class that the code has."""
        cls = _BY_CODE.get(code, Fault)
        fault = cls.__new__(cls)
        Fault.__init__(fault, message, code=code)
        fault.data.update(data or {})
        return fault

    @staticmethod
    def from_wire(error: object) -> Optional[Fault]:
        """Parses the error object of a reply; None if it is none."""
        if not isinstance(error, dict):
            return None
        code, message, data = error.get("code"), error.get("message", ""), error.get("data", {})
        if not isinstance(code, int) or isinstance(code, bool) or not isinstance(message, str):
            return None
        return Fault.of(code, message, data if isinstance(data, dict) else {})


class ParseError(Fault):
    """The payload is not JSON of the contract (-32700)."""

    CODE = -32700


class InvalidRequest(Fault):
    """The message is not a request (-32600)."""

    CODE = -32600


class MethodNotFound(Fault):
    """The object has no such method (-32601); `data["did_you_mean"]` has similar names."""

    CODE = -32601


class InvalidParams(Fault):
    """A parameter is wrong (-32602); `data["path"]` names it."""

    CODE = -32602


class BrokenObject(Fault):
    """The object broke its contract (-32603)."""

    CODE = -32603


class Failed(Fault):
    """The method's own error (-32000): `kind` for programs, `detail` for people."""

    CODE = -32000

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail, kind=kind, detail=detail)


class Expired(Fault):
    """The deadline passed before the request was sent or started (-32001)."""

    CODE = -32001


class TimedOut(Fault):
    """The deadline passed without an answer (-32002)."""

    CODE = -32002


class UnknownObject(Fault):
    """Nobody serves the object (-32003)."""

    CODE = -32003


class NodeLost(Fault):
    """The object is registered and its node is lost (-32004)."""

    CODE = -32004


class Busy(Fault):
    """The object has no room for another call (-32005)."""

    CODE = -32005


class Denied(Fault):
    """The caller may not do this (-32006)."""

    CODE = -32006


class TooLarge(Fault):
    """The request or the result is too large (-32007)."""

    CODE = -32007


class Cancelled(Fault):
    """The call was cancelled (-32008)."""

    CODE = -32008


class TrailLimit(Fault):
    """The trail is at its limit of hops (-32009)."""

    CODE = -32009


class DeadHop(Fault):
    """The next object of a chain is not served (-32010)."""

    CODE = -32010


class NameTaken(Fault):
    """The name is held by another node (-32013); `data["holder"]` names it."""

    CODE = -32013


class IdentityReused(Fault):
    """The correlation was used for another request (-32014)."""

    CODE = -32014


class Mismatch(Fault):
    """A digest does not match, or there is nothing to resume (-32015)."""

    CODE = -32015


_BY_CODE: Dict[int, Type[Fault]] = {cls.CODE: cls for cls in Fault.__subclasses__()}


def wrong_parameter(path: str, expected: str) -> InvalidParams:
    """Creates the error of an invalid parameter; `path` is its place, as in `points[1].x`."""
    return InvalidParams(f"{path}: expected {expected}", path=path, expected=expected)


def too_large(limit: int) -> TooLarge:
    """Creates the error of something larger than `limit` bytes."""
    return TooLarge(f"more than {limit} bytes", limit=limit)


def busy(retry_after_ms: int) -> Busy:
    """Creates the error of an object without room."""
    return Busy("busy", retry_after_ms=retry_after_ms)
