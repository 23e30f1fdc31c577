"""Brokers of the session, and what tests have of their own."""

import itertools

import pytest
import support

import rantai as package

_names = itertools.count(1)


@pytest.fixture(scope="session", params=["rantai", "mosquitto"])
def broker(request, tmp_path_factory):
    """Each broker in turn."""
    started = support.Broker(request.param, tmp_path_factory.mktemp(request.param))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def own_broker(tmp_path_factory):
    """The broker of this project."""
    started = support.Broker("rantai", tmp_path_factory.mktemp("own"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def rust_node(broker):
    """A node of the Rust implementation with its demonstration objects, on each broker."""
    node = support.Process(support.rantai(), "serve", "--broker", broker.url)
    node.until("serving pages on")
    yield node
    node.stop()


@pytest.fixture
def client(broker):
    # A busy machine takes its time.
    with package.Client(broker.url, deadline=120.0) as made:
        yield made


@pytest.fixture
def node(broker):
    with package.Node(broker.url) as made:
        yield made


@pytest.fixture
def name():
    """A name of an object that no other test has."""
    return f"py.test.{next(_names)}"


@pytest.fixture
def wire(broker):
    made = support.Wire(broker.url)
    yield made
    made.close()


@pytest.fixture
def command(broker):
    """Runs a subcommand of `rantai` on the broker; returns exit code, output and error output."""
    return lambda *arguments, **options: support.run(support.rantai(), *arguments, "--broker", broker.url, **options)


@pytest.fixture
def process():
    """Starts processes that end with the test."""
    started = []

    def start(made):
        started.append(made)
        return made

    yield start
    for made in started:
        made.stop()
