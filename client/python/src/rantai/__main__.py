"""`python -m rantai`: serves classes and calls methods from a shell."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from typing import Any

from . import __version__
from .client import DEFAULT_URL, Client
from .connection import ConnectError
from .faults import Fault
from .node import Node


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m rantai", description="Objects on an MQTT bus.")
    parser.add_argument("--version", action="version", version=f"rantai {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve objects until Ctrl-C")
    serve.add_argument(
        "classes", nargs="+", metavar="MODULE:CLASS", help="class to serve; MODULE:CLASS=NAME gives it another name"
    )
    serve.add_argument("--node", metavar="ID", help="id of the node, which no other one has; drawn where there is none")
    serve.add_argument("--replace", action="store_true", help="ask a node that holds the name to give it up")
    call = commands.add_parser("call", help="call a method")
    call.add_argument("method", metavar="OBJECT.METHOD")
    call.add_argument("params", nargs="*", metavar="PARAM", help="JSON, or a text; NAME=PARAM by name")
    call.add_argument("--deadline", type=float, default=30.0, metavar="S", help="seconds that the call may take (30)")
    for command in (serve, call):
        command.add_argument(
            "--broker", metavar="URL", help=f"address of the broker [env: RANTAI_BROKER] ({DEFAULT_URL})"
        )
        command.add_argument(
            "--root", default=os.environ.get("RANTAI_ROOT", "rantai"), help="root of the topics [env: RANTAI_ROOT]"
        )
        command.add_argument("--user", default=os.environ.get("RANTAI_USER"), help="user name [env: RANTAI_USER]")
        command.add_argument(
            "--password-file",
            metavar="FILE",
            default=os.environ.get("RANTAI_PASSWORD_FILE"),
            help="file whose first line is the password [env: RANTAI_PASSWORD_FILE]",
        )
        command.add_argument(
            "--ca", metavar="FILE", default=os.environ.get("RANTAI_CA"), help="authorities to trust [env: RANTAI_CA]"
        )
        command.add_argument(
            "--cert",
            metavar="FILE",
            default=os.environ.get("RANTAI_CERT"),
            help="certificate to show [env: RANTAI_CERT]",
        )
        command.add_argument(
            "--key", metavar="FILE", default=os.environ.get("RANTAI_KEY"), help="its private key [env: RANTAI_KEY]"
        )
        command.add_argument("-v", "--verbose", action="store_true", help="log everything")
    return parser


def _login(options: argparse.Namespace) -> dict[str, Any]:
    password = None
    if options.password_file:
        with open(options.password_file, encoding="utf-8") as file:
            password = file.readline().rstrip("\r\n")
    names = ("root", "user", "ca", "cert", "key")
    return {"url": options.broker, "password": password, **{name: getattr(options, name) for name in names}}


def _load(reference: str) -> tuple[Any, str | None]:
    """Returns the class of MODULE:CLASS and the name to serve it under. Raises `ValueError`."""
    path, _, name = reference.partition("=")
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise ValueError(f"{reference!r} names no class: write MODULE:CLASS, as calculator:Calculator")
    # As `python FILE` does.
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(f"cannot import {module}: {error}; run the command in its folder") from error
    except AttributeError:
        raise ValueError(f"{module} has no {attribute}") from None
    return found, name or None


def _serve(options: argparse.Namespace) -> int:
    objects = [_load(reference) for reference in options.classes]
    node = Node(name=options.node, **_login(options))
    for found, name in objects:
        node.serve(found, name, replace=options.replace)
    print(f"ready: node {node.id}", file=sys.stderr, flush=True)
    node.run()
    return 0


def _param(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _call(options: argparse.Namespace) -> int:
    object_, _, method = options.method.rpartition(".")
    if object_.endswith(".rpc"):
        object_, method = object_[: -len(".rpc")], f"rpc.{method}"
    named = [param.partition("=") for param in options.params]
    by_name = bool(named) and all(sign and name.isidentifier() for name, sign, _ in named)
    args = [] if by_name else [_param(param) for param in options.params]
    kwargs = {name: _param(value) for name, _, value in named} if by_name else {}
    with Client(deadline=options.deadline, **_login(options)) as client:
        result = client.object(object_).method(method)(*args, **kwargs)
    if isinstance(result, bytes):
        sys.stdout.buffer.write(result)
    else:
        print(json.dumps(result, ensure_ascii=False))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Carries the command out; returns the exit code: 1 for an error, 2 for a wrong command line."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    try:
        return _serve(options) if options.command == "serve" else _call(options)
    except (Fault, ConnectError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
