"""A customer of the shop, as the students' client has it."""

import Pyro4

name = input("Mau beli buku dengan judul apa? ").strip()
server = Pyro4.Proxy("PYRONAME:server")
print(server.welcomeMessage(name))
