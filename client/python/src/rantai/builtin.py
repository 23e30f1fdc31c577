"""The methods that every object has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .description import Marks, Method, Parameter
from .faults import Denied, MethodNotFound, Mismatch, wrong_parameter
from .schema import Codecs
from .served import Served
from .wire import names, text
from .wire.request import One, Params, Request

if TYPE_CHECKING:
    from .dispatch import Dispatcher

NAMES = ["rpc.ping", "rpc.info", "rpc.stats", "rpc.discover", "rpc.cancel", "rpc.more", "rpc.yield"]

#: What a method without a reply returns.
NOTHING: Any = object()

_codecs = Codecs()


def _signature(name: str, **parameters: tuple[Any, bool]) -> Method:
    params = [Parameter(param, _codecs.of(hint), required) for param, (hint, required) in parameters.items()]
    return Method(name, "", params, _codecs.of(Any), Marks(), False, False, name)


_NONE = _signature("none")
_CANCEL = _signature("rpc.cancel", correlation=(str, True), unheard=(bool, False))
_MORE = _signature("rpc.more", taken=(int, True), credit=(int, True), again=(bool, False))


def answer(dispatcher: Dispatcher, served: Served, asked: Request, received: float) -> Any:
    """Carries a built-in method out and returns its result. Raises `Fault`."""
    name = asked.method
    if name == "rpc.cancel":
        return _cancel(served, asked, asked.params)
    if name == "rpc.more":
        return _more(served, asked, received)
    if name not in NAMES:
        raise MethodNotFound(f'no method "{name}"', did_you_mean=names.similar(name, NAMES))
    _NONE.bind(asked.params)
    if name == "rpc.ping":
        return "pong"
    if name == "rpc.info":
        return text.read(served.entry.write()) if served.entry is not None else None
    if name == "rpc.stats":
        return {**served.stats.report(), "shares": [served.places.report("calls", asked.caller)]}
    if name == "rpc.discover":
        return served.description.open_rpc(served.name)
    if not dispatcher.is_claimed_by(served.name, asked.caller):
        who = f' of user "{asked.caller}"' if asked.caller is not None else ""
        raise Denied(f"no other node{who} claims {served.name}: publish its entry, with `settled` false, first")
    dispatcher.give_up(served.name)
    return True


def _cancel(served: Served, asked: Request, params: Params) -> bool:
    arguments = _CANCEL.bind([params.text] if isinstance(params, One) and not isinstance(params.value, str) else params)
    try:
        correlation = bytes.fromhex(arguments["correlation"])
    except ValueError:
        correlation = b""
    if not 16 <= len(correlation) <= 64:
        raise wrong_parameter("correlation", "16 to 64 bytes in hexadecimal digits")
    found = served.find(asked.reply_to, correlation, asked.via, asked.caller)
    return found is not None and found.cancel()


def _more(served: Served, asked: Request, received: float) -> Any:
    arguments = _MORE.bind(asked.params)
    found = served.find(asked.reply_to, asked.correlation, asked.via, asked.caller)
    if found is None or found.stream is None:
        raise Mismatch("there is no such stream on this node (any more)")
    until = received + asked.ttl_ms / 1000
    found.stream.more(arguments["taken"], arguments["credit"], arguments.get("again", False), until)
    return NOTHING
