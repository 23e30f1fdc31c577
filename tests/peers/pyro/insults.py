"""The insult service and its filter, as the students' evaluation has them."""

import re
import time

import Pyro4


@Pyro4.expose
@Pyro4.behavior(instance_mode="single")
class InsultService:
    insults = []

    def add_insult(self, given):
        told = []
        for insult in [given] if isinstance(given, str) else given:
            insult = insult.lower()
            known = insult in self.insults
            if not known:
                self.insults.append(insult)
            told.append(f"Insulto {'ya registrado' if known else 'registrado'}: {insult}")
        return told

    def get_insults(self):
        return self.insults


@Pyro4.expose
@Pyro4.behavior(instance_mode="single")
class InsultFilterService:
    def __init__(self):
        self.texts = []
        self.service = None

    def add_text(self, given):
        if self.service is None:
            self.service = Pyro4.Proxy("PYRONAME:InsultService")
        insults = self.service.get_insults()
        told = []
        for text in [given] if isinstance(given, str) else given:
            text = re.sub(r"\w+", lambda word: "CENSORED" if word[0].lower() in insults else word[0], text)
            known = any(kept["text"] == text for kept in self.texts)
            if not known:
                self.texts.append({"id": len(self.texts) + 1, "text": text, "timestamp": time.time()})
            told.append(f"Texto {'ya registrado' if known else 'registrado'}: {text}")
        return told

    def get_texts(self):
        return self.texts


daemon = Pyro4.Daemon()
name_server = Pyro4.locateNS()
for service in (InsultService, InsultFilterService):
    name_server.register(service.__name__, daemon.register(service))
print("Services started", flush=True)
daemon.requestLoop()
