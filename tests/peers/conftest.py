"""Fixtures: a broker of each kind, and peers that end with their test."""

import itertools

import pytest

import brokers
from clients import Client, Process

_names = itertools.count()


@pytest.fixture(scope="session", params=brokers.KINDS)
def broker(request, tmp_path_factory):
    """A broker with defaults, shared by all tests of its kind; topics and client ids keep them apart."""
    running = brokers.Broker(request.param, tmp_path_factory.mktemp(request.param))
    yield running
    running.kill()


@pytest.fixture(params=brokers.KINDS)
def start_broker(request, tmp_path):
    """Starts a broker with settings of the test's own."""
    started = []

    def start(**settings):
        started.append(brokers.Broker(request.param, tmp_path, **settings))
        return started[-1]

    yield start
    for running in started:
        running.kill()


@pytest.fixture
def name():
    """A word that no other test uses, for topics and client ids."""
    return f"n{next(_names)}"


@pytest.fixture
def client():
    """Makes a paho client, not yet connected."""
    yield from _closing(Client)


@pytest.fixture
def connect(client):
    """Makes a paho client and connects it, which must succeed."""

    def connected(broker, client_id="", version=5, manual_ack=False, will=None, user=None, **options):
        new = client(broker, client_id, version, manual_ack, will, user)
        new.connack = new.connect(**options)
        assert new.connack.reason == 0, new.connack
        return new

    return connected


@pytest.fixture
def subscriber():
    """Starts a mosquitto_sub, subscribed when this returns."""
    yield from _closing(lambda broker, *arguments: Process("mosquitto_sub", broker, *arguments))


def _closing(make):
    made = []

    def build(*arguments, **options):
        made.append(make(*arguments, **options))
        return made[-1]

    yield build
    for one in made:
        one.close()
