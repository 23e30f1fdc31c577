"""A link of the chain of cities, as the students' program has it: `city.py NAME NEXT`. Registers with the name server."""

import sys

import Pyro4

PREFIX = "example.chainTopology."


@Pyro4.expose
class Chain:
    def __init__(self, name, next_name):
        self.name = name
        self.next_name = next_name
        self.next = None

    def process(self, message):
        if self.next is None:
            self.next = Pyro4.Proxy("PYRONAME:" + PREFIX + self.next_name)
        if self.name in message:
            print(f"kembali ke {self.name}", flush=True)
            print("Perjalanan telah selesai", flush=True)
            return [f"selesai pada {self.name}"]
        print(f"melanjutkan perjalanan dari {self.name} ke {self.next_name}", flush=True)
        message.append(self.name)
        result = self.next.process(message)
        result.insert(0, f"telah melewati {self.name}")
        return result


name, next_name = sys.argv[1:]
daemon = Pyro4.Daemon()
uri = daemon.register(Chain(name, next_name))
Pyro4.locateNS().register(PREFIX + name, uri)
print(f"server_{name} started", flush=True)
daemon.requestLoop()
