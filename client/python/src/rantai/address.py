"""Addresses of brokers, and how to log in there."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Optional
from urllib.parse import unquote, urlsplit

_SCHEMES = {"mqtt": "mqtt", "tcp": "mqtt", "mqtts": "mqtts", "tls": "mqtts", "ssl": "mqtts", "ws": "ws", "wss": "wss"}
_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


@dataclass(frozen=True)
class Address:
    """Address of a broker."""

    scheme: str
    host: str
    port: int
    path: str = "/mqtt"
    user: Optional[str] = None
    password: Optional[str] = None

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")

    @property
    def is_web(self) -> bool:
        """Whether the connection is a WebSocket."""
        return self.scheme in ("ws", "wss")

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}" + (self.path if self.is_web else "")

    @staticmethod
    def parse(text: str) -> Address:
        """Parses an address. Raises `ValueError`."""
        if text.startswith("unix:"):
            path = text[len("unix:") :]
            if not path:
                raise ValueError(f"{text!r} is no address: unix: needs the path of a socket")
            return Address("unix", path, 0)
        url = urlsplit(text if "://" in text else f"mqtt://{text}")
        scheme = _SCHEMES.get(url.scheme)
        try:
            port = url.port
        except ValueError:
            raise ValueError(f"{text!r} is no address: its port is no number from 0 to 65535") from None
        if scheme is None or not url.hostname:
            raise ValueError(
                f"{text!r} is no address: write mqtt://HOST, mqtts://HOST, ws://HOST/PATH, wss://HOST/PATH or unix:PATH"
            )
        return Address(
            scheme,
            url.hostname,
            _PORTS[scheme] if port is None else port,
            url.path if url.path not in ("", "/") else "/mqtt",
            unquote(url.username) if url.username is not None else None,
            unquote(url.password) if url.password is not None else None,
        )


def parse_all(text: str) -> list[Address]:
    """Parses addresses that are separated by commas, tried in this order. Raises `ValueError`."""
    return [Address.parse(part.strip()) for part in text.split(",") if part.strip()] or [Address.parse(text)]


@dataclass(frozen=True)
class Tls:
    """Certificates: `ca` of the authorities that are trusted, `cert` and `key` of the client. All are PEM files."""

    ca: Optional[str] = None
    cert: Optional[str] = None
    key: Optional[str] = None

    def context(self) -> ssl.SSLContext:
        """Reads the files. Raises `OSError` where one cannot be read."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise OSError(f"cannot read the authorities in {self.ca}: {error}") from error
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except OSError as error:
                raise OSError(f"cannot read the certificate {self.cert} with its key: {error}") from error
        return context
