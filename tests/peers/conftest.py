"""Fixtures: a broker of each kind, and peers that end with their test."""

import itertools

import pytest

import brokers
import layers
from clients import Client, Process
from nodes import Bus, Caller, Node, Watch

_names = itertools.count()


def pytest_configure(config):
    config.addinivalue_line("markers", "open_bus: what holds for callers who do not log in, such as public replies")
    config.addinivalue_line("markers", "tcp(why): what is kept to TCP")
    config.addinivalue_line("markers", "mosquitto_tools: what uses mosquitto's programs, which know no WebSocket")


def pytest_collection_modifyitems(config, items):
    """Deselects tests of callers without a user if users must log in, and tests that another transport does not
    support; they are counted."""
    markers = ["open_bus"] if brokers.USERS else []
    if layers.TRANSPORT != "tcp":
        markers.append("tcp")
    if layers.uses_web(layers.TRANSPORT):
        markers.append("mosquitto_tools")
    left_out = [item for item in items if any(item.get_closest_marker(marker) for marker in markers)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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


@pytest.fixture(scope="session", params=brokers.KINDS)
def bus(request, tmp_path_factory):
    """A broker of its own with every object of config/nodes.toml on it, shared by all tests of its kind."""
    running = Bus(brokers.Broker(request.param, tmp_path_factory.mktemp(f"bus-{request.param}")))
    try:
        running.start()
        yield running
    finally:
        running.close()
        running.broker.kill()


@pytest.fixture
def make_caller(bus):
    """Makes a caller in MQTT 5, subscribed to its replies."""
    yield from _closing(lambda **options: Caller(bus.broker, **options))


@pytest.fixture
def caller(make_caller):
    return make_caller()


@pytest.fixture
def serve(bus):
    """Starts a node beside those of the bus, on a root of the test's own."""
    yield from _closing(lambda *names, **options: Node(bus.broker, *names, **options))


@pytest.fixture
def watch(bus):
    """Follows retained topics."""
    yield from _closing(lambda *filters: Watch(bus.broker, *filters))


@pytest.fixture
def name():
    """Returns a unique word, for topics and client ids."""
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
