"""Names of roots, objects, methods, nodes and clients."""

from __future__ import annotations

import difflib
import re
from typing import Iterable, List

RESERVED = frozenset({"broker", "console", "recorder", "registry", "rpc", "tasks"})

_LEVEL = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_METHOD = re.compile(r"(?:rpc\.)?[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


def root(text: str) -> str:
    """Checks a root: levels of 1 to 64 characters, of at most 128 bytes together. Raises `ValueError`."""
    if len(text) > 128 or not all(_LEVEL.match(level) for level in text.split("/")):
        raise ValueError(
            f"{text!r} is no root: use levels of 1 to 64 characters of A-Z a-z 0-9 . _ -, of 128 bytes together"
        )
    return text


def is_object(text: str) -> bool:
    """Returns whether a text is the name of an object, reserved names included."""
    return _LEVEL.match(text) is not None


def object_name(text: str) -> str:
    """Checks the name of an object to call. Raises `ValueError`."""
    if not is_object(text):
        raise ValueError(f"{text!r} is no object name: use 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return text


def own_object_name(text: str) -> str:
    """Checks the name of an object to serve: reserved names are refused. Raises `ValueError`."""
    if text in RESERVED:
        raise ValueError(f"{text!r} is a reserved name; give the object another one")
    return object_name(text)


def is_method(text: str) -> bool:
    """Returns whether a text is a method name; built-in and private ones are."""
    return _METHOD.match(text) is not None


def method_name(text: str) -> str:
    """Checks the name of a method. Raises `ValueError`."""
    if not is_method(text):
        raise ValueError(f"{text!r} is no method name: use an identifier of at most 64 characters")
    return text


def is_id(text: str) -> bool:
    """Returns whether a text is the id of a node or a client."""
    return _ID.match(text) is not None


def client_id(text: str) -> str:
    """Checks the id of a node or a client. Raises `ValueError`."""
    if not is_id(text):
        raise ValueError(f"{text!r} is no client id: use 1 to 64 characters of A-Z a-z 0-9 _ -")
    return text


def similar(name: str, names: Iterable[str]) -> List[str]:
    """Returns up to three names that look like `name`, the most similar first."""
    return difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
