"""Pyro5's side: the servers, and the client, whose times the harness puts into its own histogram.

`pyro.py echo`, `pyro.py link NAME`: a server; it says where it is on stderr and ends when its stdin does.
`pyro.py client`: carries out the lines it reads:
    join URI URI                                     the first link goes on to the second
    echo|chain URI CALLERS WARM_UP LENGTH            seconds; a line "CALLS COUNTED", then as many times, in nanoseconds
"""

import array
import os
import sys
import threading
import time

import Pyro5.api

# Everybody else here has it.
Pyro5.config.SOCK_NODELAY = True
TEXT = "x" * 60
ENTIRE = ["passed on from A", "passed on from B", "passed on from C", "complete at A"]


@Pyro5.api.expose
class Echo:
    def echo(self, text):
        return text


@Pyro5.api.expose
class Link:
    """A link of Pyro5's example "circular"."""

    def __init__(self, name):
        self.name, self.uri, self.proxy = name, None, None

    def join(self, uri):
        self.uri = uri

    def process(self, message):
        if self.proxy is None:
            self.proxy = Pyro5.api.Proxy(self.uri)
        if self.name in message:
            return ["complete at " + self.name]
        message.append(self.name)
        self.proxy._pyroClaimOwnership()
        result = self.proxy.process(message)
        result.insert(0, "passed on from " + self.name)
        return result


def serve(served):
    daemon = Pyro5.api.Daemon(host="127.0.0.1")
    uri = daemon.register(served)
    threading.Thread(target=daemon.requestLoop, daemon=True).start()
    print("serving", uri, file=sys.stderr, flush=True)
    sys.stdin.read()
    os._exit(0)


def echo(proxy):
    assert proxy.echo(TEXT) == TEXT


def chain(proxy):
    assert proxy.process(["hello"]) == ENTIRE


def measure(call, uri, callers, warm_up, length):
    """Calls that `callers` threads make, one after the other each; counted are those that end after the warm-up."""
    ready = threading.Barrier(callers + 1)
    made, times, failures, interval = [0] * callers, [array.array("Q") for _ in range(callers)], [], []

    def caller(index):
        try:
            with Pyro5.api.Proxy(uri) as proxy:
                call(proxy)
                ready.wait()
                ready.wait()
                counted, end = interval
                own = times[index]
                while True:
                    began = time.perf_counter_ns()
                    if began >= end:
                        return
                    call(proxy)
                    ended = time.perf_counter_ns()
                    made[index] += 1
                    if counted <= ended < end:
                        own.append(ended - began)
        except Exception as failure:
            failures.append(failure)
            ready.abort()

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(callers)]
    for thread in threads:
        thread.start()
    try:
        ready.wait()
        counted = time.perf_counter_ns() + int(warm_up * 1e9)
        interval.extend((counted, counted + int(length * 1e9)))
        ready.wait()
    except threading.BrokenBarrierError:
        pass
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(made), array.array("Q", [time for own in times for time in own])


def client():
    print("reading", file=sys.stderr, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["join", link, following]:
                with Pyro5.api.Proxy(link) as proxy:
                    proxy.join(following)
            case ["echo" | "chain" as what, uri, callers, warm_up, length]:
                call = {"echo": echo, "chain": chain}[what]
                made, times = measure(call, uri, int(callers), float(warm_up), float(length))
                sys.stdout.buffer.write(f"{made} {len(times)}\n".encode() + times.tobytes())
                sys.stdout.buffer.flush()
            case _:
                sys.exit(f"cannot be carried out: {line!r}")


match sys.argv[1:]:
    case ["echo"]:
        serve(Echo())
    case ["link", name]:
        serve(Link(name))
    case ["client"]:
        client()
    case _:
        sys.exit(__doc__)
