"""Pyro5's circular example, three servers as processes of their own, measured from a fourth.

Prints the median of every round of trips, in microseconds.
"""

import multiprocessing
import statistics
import sys
import time

import Pyro5.api


@Pyro5.api.expose
class Chain:
    def __init__(self, name, following):
        self.name, self.following, self.uri, self.proxy = name, following, None, None

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


def serve(name, following, uris):
    daemon = Pyro5.api.Daemon(host="127.0.0.1")
    uris.put((name, str(daemon.register(Chain(name, following)))))
    daemon.requestLoop()


def main(rounds, trips):
    uris = multiprocessing.Queue()
    ring = {"A": "B", "B": "C", "C": "A"}
    servers = [multiprocessing.Process(target=serve, args=(n, f, uris), daemon=True) for n, f in ring.items()]
    for server in servers:
        server.start()
    found = dict(uris.get() for _ in servers)
    for name, following in ring.items():
        with Pyro5.api.Proxy(found[name]) as proxy:
            proxy.join(found[following])
    with Pyro5.api.Proxy(found["A"]) as entry:
        expected = ["passed on from A", "passed on from B", "passed on from C", "complete at A"]
        for _ in range(50):
            assert entry.process(["hello"]) == expected
        for _ in range(rounds):
            times = []
            for _ in range(trips):
                began = time.perf_counter()
                entry.process(["hello"])
                times.append((time.perf_counter() - began) * 1e6)
            print(statistics.median(times), flush=True)
    for server in servers:
        server.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
