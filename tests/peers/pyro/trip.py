"""A trip through the cities, as the students' client has it: asks for the first city and prints the result."""

import Pyro4

chain = Pyro4.Proxy("PYRONAME:example.chainTopology.bandung")
print(chain.process([input("Kota Awal ? ").strip()]))
