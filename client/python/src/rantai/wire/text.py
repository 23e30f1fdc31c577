"""JSON as the contract restricts it: finite numbers, unique member names, at most 64 levels, exact integers."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Callable, Dict, List, Tuple

from ..faults import Fault, InvalidRequest, ParseError

#: Maximum nesting depth of arrays and objects.
DEEPEST = 64
#: Largest integer that every JSON reader parses exactly.
LARGEST = (1 << 53) - 1

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.S)
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)\.0+\Z")
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class NotJson(ValueError):
    """The text is not JSON, or breaks a rule of the contract."""


class TooDeep(ValueError):
    """The text is nested more than `DEEPEST` levels."""


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen = set()
        for name, _ in pairs:
            if name in seen:
                raise NotJson(f"duplicate member {name!r}")
            seen.add(name)
    return members


def _number(text: str) -> Any:
    value = float(text)
    if math.isinf(value):
        raise NotJson(f"number out of range: {text[:40]}")
    # 9007199254740993.0 is the value of no double.
    if abs(value) > LARGEST and _WHOLE.match(text):
        return int(text[: text.index(".")])
    return value


def _constant(text: str) -> Any:
    raise NotJson(f"{text} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_number, parse_constant=_constant)
_GRAMMAR = json.JSONDecoder(parse_constant=_constant)


def _nesting(text: str) -> Tuple[int, int]:
    """Returns the deepest nesting, and how many brackets are open at the end."""
    opened = deepest = 0
    for char in _STRING.sub("", text):
        if char in "[{":
            opened += 1
            deepest = max(deepest, opened)
        elif char in "]}" and opened:
            opened -= 1
    return deepest, opened


def read(payload: bytes) -> Any:
    """Parses a JSON value. Raises `NotJson` or `TooDeep`."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8: {error.reason} at byte {error.start}") from None
    if text.count("[") + text.count("{") > DEEPEST:
        deepest, opened = _nesting(text)
        if deepest > DEEPEST:
            raise NotJson(f"{opened} brackets are not closed") if opened else TooDeep(_TOO_DEEP)
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            # A lone surrogate cannot be encoded.
            _ENCODER.encode(value).encode("utf-8")
    except NotJson:
        raise
    except UnicodeEncodeError:
        raise NotJson("an escape of a surrogate without its pair") from None
    except ValueError as error:
        raise NotJson(str(error)) from None
    return value


_TOO_DEEP = f"more than {DEEPEST} levels of arrays and objects"


def fault(error: ValueError) -> Fault:
    """Returns the error of a reply to a payload that `read` refuses."""
    if isinstance(error, TooDeep):
        return InvalidRequest(str(error))
    return ParseError(f"not JSON: {error}")


def is_plain_text(text: str) -> bool:
    """Returns whether a payload that `read` refuses is text and was not meant to be JSON.

    It does not begin like an array or an object, and it does not match the JSON grammar either, as `1e400` does.
    """
    if text.lstrip(" \t\n\r\ufeff").startswith(("[", "{")):
        return False
    try:
        _GRAMMAR.decode(text)
    except ValueError:
        return True
    return False


def portable(value: Any, depth: int = 0) -> Any:
    """Converts a value so that every reader parses it exactly: large integers become strings, 5.0 becomes 5.

    Raises `ValueError` for a number that is not finite, and for more than `DEEPEST` levels; `TypeError` for what JSON
    does not have.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if -LARGEST <= value <= LARGEST else str(value)
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number of JSON")
        return int(value) if value.is_integer() and -LARGEST <= value <= LARGEST else value
    if kind is list or kind is tuple:
        if depth >= DEEPEST:
            raise ValueError(_TOO_DEEP)
        return [portable(item, depth + 1) for item in value]
    if kind is dict:
        if depth >= DEEPEST:
            raise ValueError(_TOO_DEEP)
        members = {}
        for name, item in value.items():
            if not isinstance(name, str):
                raise TypeError(f"the member name {name!r} is no text")
            members[name] = portable(item, depth + 1)
        return members
    bases: Tuple[Callable[[Any], Any], ...] = (int, float, str, list, tuple, dict)
    for base in bases:
        if isinstance(value, base):  # type: ignore[arg-type]
            return portable(base(value), depth)
    raise TypeError(f"a value of type {kind.__name__} is not JSON")


def write(value: Any) -> bytes:
    """Serializes a value that is `portable` already."""
    return _ENCODER.encode(value).encode("utf-8")
