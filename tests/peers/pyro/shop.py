"""The shop of the e-library, as the students' server has it."""

import Pyro4


class Server:
    @Pyro4.expose
    def welcomeMessage(self, name):
        return f"Buku dengan judul {name} berhasil dibeli!"


def start_server():
    server = Server()
    daemon = Pyro4.Daemon()
    name_server = Pyro4.locateNS()
    uri = daemon.register(server)
    name_server.register("server", uri)
    print("Ready. Object uri =", uri, flush=True)
    daemon.requestLoop()


start_server()
