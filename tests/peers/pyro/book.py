"""A book of the e-library's chain, as the students' program has it: `book.py NUMBER NEXT`."""

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
            print(f"Kembali ke buku {self.name}; Buku akan di ulang dari halaman 1", flush=True)
            return [f"Kembali ke buku {self.name}"]
        print(f"Buku {self.name} sudah selesai di baca lanjutkan ke buku {self.next_name}", flush=True)
        message.append(self.name)
        result = self.next.process(message)
        result.insert(0, f"Buku {self.name} sudah selesai di baca!")
        return result

    def status(self, message):
        return self.process(message)


name, next_name = sys.argv[1:]
daemon = Pyro4.Daemon()
Pyro4.locateNS().register(PREFIX + name, daemon.register(Chain(name, next_name)))
print(f"Buku {name} mulai dibaca", flush=True)
daemon.requestLoop()
