"""The Pyro gateway by the real Pyro4 and Pyro5: their clients call objects of the bus, and their servers become objects of it.

The programs in pyro/ are written as the students' are: they know Pyro alone, and find the name server by its port."""

import os
import pathlib
import subprocess
import sys
import threading
import time

import Pyro4
import Pyro4.util
import Pyro5.api
import Pyro5.errors
import pytest

import layers
from brokers import ROOT
from nodes import Caller, Node, Watch
from tap import PATIENCE

# Pyro has no users: its calls are those of clients that have not logged in.
pytestmark = pytest.mark.open_bus

PROGRAMS = pathlib.Path(__file__).parent / "pyro"
CONFIG = """
[[calculator]]
name = "calculator"
[[echo]]
name = "echo"
[pyro]
listen = "127.0.0.1:0"
limits = { lost_ms = 500 }
"""


class Four:
    """Pyro4 by the names of Pyro5."""

    name = "Pyro4"
    module, errors = Pyro4, Pyro4.errors
    traceback = staticmethod(Pyro4.util.getPyroTraceback)
    Proxy, Daemon = Pyro4.Proxy, Pyro4.Daemon
    locate = staticmethod(Pyro4.locateNS)
    batch = staticmethod(Pyro4.batch)
    expose = staticmethod(Pyro4.expose)


class Five:
    name = "Pyro5"
    module, errors = Pyro5, Pyro5.errors
    traceback = staticmethod(Pyro5.errors.get_pyro_traceback)
    Proxy, Daemon = Pyro5.api.Proxy, Pyro5.api.Daemon
    locate = staticmethod(Pyro5.api.locate_ns)
    batch = staticmethod(Pyro5.api.BatchProxy)
    expose = staticmethod(Pyro5.api.expose)


class Gateway:
    """A gateway with a calculator and an echo on a root of its own, so that Pyro's programs may have the names of the bus."""

    def __init__(self, broker, directory):
        self.broker, self.root = broker, "pyro"
        self.config = directory / "pyro.toml"
        self.config.write_text(CONFIG)
        self.node = Node(broker, "calculator", "echo", "pyro", root=self.root, config=str(self.config), serving=("calculator", "echo"))
        self.port = int(self.node.wait_for_log(r"Pyro on 127\.0\.0\.1:(\d+)")[1])

    def uri(self, object):
        return f"PYRO:{object}@127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def gateway(broker, tmp_path_factory):
    running = Gateway(broker, tmp_path_factory.mktemp("pyro"))
    for config in (Pyro4.config, Pyro5.config):
        config.NS_HOST, config.NS_PORT, config.COMMTIMEOUT = "127.0.0.1", running.port, PATIENCE
    try:
        yield running
    finally:
        running.node.close()


@pytest.fixture(params=[Four, Five], ids=lambda pyro: pyro.name)
def pyro(request, gateway):
    return request.param


@pytest.fixture
def bus_caller(gateway):
    """A caller that knows PROTOCOL.md alone, beside the gateway."""
    caller = Caller(gateway.broker, root=gateway.root)
    caller.registry = Watch(gateway.broker, f"{gateway.root}/name/#")
    yield caller
    caller.registry.close()
    caller.close()


def eventually(call):
    """The first result of a call that raises nothing."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except Exception:  # Whatever it is, it may pass.
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("serializer", ["serpent", "json", "msgpack"])
def test_a_proxy_calls(pyro, serializer):
    with pyro.Proxy("PYRONAME:calculator") as calculator:
        calculator._pyroSerializer = serializer
        assert calculator.add(2, 3) == 5
        assert calculator.add(b=3, a=2.5) == 5.5
        assert calculator.sub(2, b=3) == -1
        assert isinstance(calculator.mul(2, 3), float)
        with pytest.raises(ZeroDivisionError, match="Division by zero") as caught:
            calculator.div(1, 0)
        assert (caught.value.code, caught.value.kind) == (-32000, "division_by_zero")
        with pytest.raises(TypeError, match="a"):
            calculator.add("one", 2)
        assert calculator.add(2, 3) == 5, "the connection goes on"


def test_a_traceback_names_the_place(pyro):
    with pyro.Proxy("PYRONAME:calculator") as calculator:
        try:
            calculator.div(1, 0)
        except ZeroDivisionError:
            text = "".join(pyro.traceback())
    assert 'object "calculator", method "div"' in text and "Division by zero (-32000)" in text


def test_what_is_not_there(pyro, gateway):
    with pyro.Proxy("PYRONAME:calculator") as calculator, pytest.raises(AttributeError):
        calculator.pow(2, 3)
    with pyro.Proxy(gateway.uri("calculater")) as nobody, pytest.raises(pyro.errors.CommunicationError, match="calculater"):
        nobody._pyroBind()
    with pytest.raises(pyro.errors.NamingError, match="unknown name: nobody"):
        pyro.Proxy("PYRONAME:nobody")._pyroBind()


@pytest.mark.parametrize("serializer", ["serpent", "json", "msgpack"])
def test_values_go_there_and_back(pyro, gateway, serializer):
    with pyro.Proxy(gateway.uri("echo")) as echo:
        echo._pyroSerializer = serializer
        for value in [
            None, True, -7, 0.1, 1e300, 2**53 - 1, "", "it's \"q\" \\ \n é 😀\x7f\x00", [1, [2, []]], {"a": {"b": None}}, "x" * 200_000,
        ]:
            assert echo.echo(value) == value
        assert echo.echo((2, 3)) == [2, 3], "tuples become lists"
        assert echo.echo(2**70) == str(2**70), "integers beyond 2^53 become texts"
        data = echo.bytes(b"\x00\xff") if serializer != "json" else None
        assert data in (None, b"\x00\xff", {"data": "AP8=", "encoding": "base64"})
        for value in [float("inf"), float("nan")]:
            with pytest.raises(Exception, match="cannot be sent on the bus"):
                echo.echo(value)
        assert echo.echo("on") == "on"


def test_the_name_server(pyro, gateway):
    with pyro.locate() as names:
        names.ping()
        listed = names.list()
        assert listed["calculator"] == gateway.uri("calculator") and "echo" in listed
        assert names.count() == len(listed)
        assert str(names.lookup("calculator")) == gateway.uri("calculator")
        assert set(names.list(prefix="calc")) == {"calculator"}
        assert set(names.list(regex=".*lat")) == {"calculator"}
        uri, metadata = names.lookup("calculator", return_metadata=True)
        assert set(metadata) == {"math"}
    with pyro.Proxy("PYROMETA:math") as calculator:
        assert calculator.add(2, 3) == 5


def test_a_batch_ends_at_its_first_error(pyro):
    with pyro.Proxy("PYRONAME:calculator") as calculator:
        batch = pyro.batch(calculator)
        batch.add(1, 2)
        batch.div(1, 0)
        batch.add(3, 4)
        results = batch()
        assert next(results) == 3
        with pytest.raises(ZeroDivisionError):
            next(results)
        batch.add(1, 2)
        assert batch(oneway=True) is None


def test_oneway(pyro, bus_caller):
    before = bus_caller.calls("echo/echo")
    with pyro.Proxy("PYRONAME:echo") as echo:
        echo._pyroBind()
        echo._pyroOneway.add("echo")
        assert echo.echo("x") is None

    def is_carried_out():
        assert bus_caller.calls("echo/echo") == before + 1

    eventually(is_carried_out)


def test_a_daemon_answers(pyro, gateway):
    with pyro.Proxy(gateway.uri("Pyro.Daemon")) as daemon:
        daemon.ping()
        assert {"calculator", "Pyro.NameServer"} <= set(daemon.registered())
        assert "connections" in daemon.info()
        assert "add" in daemon.get_metadata("calculator")["methods"]


def test_compressed_messages(pyro, gateway):
    pyro.module.config.COMPRESSION = True
    try:
        with pyro.Proxy(gateway.uri("echo")) as echo:
            assert echo.echo("x" * 100_000) == "x" * 100_000
    finally:
        pyro.module.config.COMPRESSION = False


def test_marshal_is_refused(pyro, gateway):
    with pyro.Proxy(gateway.uri("echo")) as echo:
        echo._pyroSerializer = "marshal"
        with pytest.raises(pyro.errors.CommunicationError, match="marshal is refused"):
            echo.echo(1)


@pytest.mark.tcp("the node is of the Python package, which knows TCP and TLS")
def test_a_stream(pyro, gateway):
    environment = dict(os.environ, PYTHONPATH=f"{ROOT / 'client' / 'python' / 'src'}:{PROGRAMS}", **gateway.broker.environment())
    command = [sys.executable, "-m", "rantai", "serve", "numbers_node:Numbers", "--root", gateway.root]
    environment["RANTAI_BROKER"] = gateway.broker.url(None)
    node = subprocess.Popen(command, env=environment)
    try:
        with eventually(lambda: bound(pyro.Proxy(gateway.uri("numbers")))) as numbers:
            assert list(numbers.count(1_000)) == list(range(1_000))
            endless = numbers.count(10_000_000)
            assert [next(endless) for _ in range(3)] == [0, 1, 2]
            endless.close()
            assert list(numbers.count(2)) == [0, 1]
    finally:
        node.terminate()
        node.wait(PATIENCE)


def bound(proxy):
    proxy._pyroBind()
    return proxy


def test_ten_clients_in_threads(pyro, gateway):
    wrong = []

    def call(first):
        with pyro.Proxy(gateway.uri("calculator")) as calculator:
            for number in range(100):
                if (result := calculator.add(first, number)) != first + number:
                    wrong.append(result)
        done.append(first)

    done = []
    threads = [threading.Thread(target=call, args=[first * 1_000]) for first in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (wrong, len(done)) == ([], 10)


class Server:
    """A Pyro server in this process, with an object that is registered under a name."""

    def __init__(self, pyro, name):
        class Lamp:
            def __init__(self):
                self._level = 1

            def set(self, level, *, by="nobody"):
                self._level = level
                return [level, by]

            def fail(self, text):
                raise ValueError(text)

            def numbers(self, to):
                yield from range(to)

            def data(self):
                return b"\x00\xff"

            def nan(self):
                return float("nan")

            @property
            def level(self):
                return self._level

            @level.setter
            def level(self, level):
                self._level = level

        self.pyro, self.name = pyro, name
        self.daemon = pyro.Daemon(host="127.0.0.1")
        self.uri = self.daemon.register(pyro.expose(Lamp)())
        self.thread = threading.Thread(target=self.daemon.requestLoop, daemon=True)
        self.thread.start()
        with pyro.locate() as names:
            names.register(name, self.uri, metadata={"lamps"})

    def close(self):
        self.daemon.shutdown()
        self.thread.join(PATIENCE)


@pytest.fixture
def lamp(pyro, name):
    server = Server(pyro, f"lab.lamp.{name}.{pyro.name}")
    yield server
    server.close()
    with pyro.locate() as names:
        names.remove(server.name)


def entries(caller, object):
    """The values of the registry entries of an object, None for one that was cleared."""
    topic = f"{caller.root}/name/{object}/"
    return [value for known, value in caller.registry.latest.items() if known.startswith(topic)]


def served(caller, target, payload=b""):
    """The reply to a call, once the object is served."""
    object = target.split("/")[0]

    def is_served(_):
        return any(entry and entry["settled"] for entry in entries(caller, object))

    caller.registry.until(is_served, f"{object} on the bus")
    return caller.call(target, payload)


def test_a_pyro_server_is_an_object_of_the_bus(lamp, bus_caller):
    assert served(bus_caller, f"{lamp.name}/set", [5]).result == [5, "nobody"]
    assert bus_caller.call(f"{lamp.name}/set", {"level": 6, "by": "ada"}).result == [6, "ada"]
    assert bus_caller.call(f"{lamp.name}/get_level").result == 6
    assert bus_caller.call(f"{lamp.name}/set_level", [7]).result is None
    assert bus_caller.call(f"{lamp.name}/get_level").result == 7
    assert bus_caller.call(f"{lamp.name}/numbers", [3]).result == [0, 1, 2]
    assert bus_caller.call(f"{lamp.name}/data").payload == b"\x00\xff"
    error = bus_caller.call(f"{lamp.name}/fail", ["no"]).error
    assert (error["code"], error["message"], error["data"]["kind"]) == (-32000, "no", "ValueError")
    assert 'raise ValueError(text)' in error["data"]["traceback"]
    assert bus_caller.call(f"{lamp.name}/explode").error["code"] == -32601
    error = bus_caller.call(f"{lamp.name}/nan").error
    assert error["code"] == -32603 and "nan" in error["message"]


def test_both_versions_reach_a_pyro_server(lamp, bus_caller):
    served(bus_caller, f"{lamp.name}/set", [1])
    for other in (Four, Five):
        with bound(other.Proxy(f"PYRONAME:{lamp.name}")) as proxy:
            assert proxy.set(3) == [3, "nobody"]
            with pytest.raises(ValueError, match="no"):
                proxy.fail("no")
            assert list(proxy.numbers(3)) == [0, 1, 2]
        direct = lamp.uri.port == proxy._pyroUri.port
        assert direct == (other is lamp.pyro), "its own version without a detour"


def test_a_removed_name_is_not_on_the_bus(lamp, bus_caller):
    served(bus_caller, f"{lamp.name}/set", [1])
    with lamp.pyro.locate() as names:
        assert names.remove(lamp.name) == 1
        gone(bus_caller, lamp.name)
        names.register(lamp.name, lamp.uri)
        assert served(bus_caller, f"{lamp.name}/set", [2]).result == [2, "nobody"]
        # At once, while the object is being withdrawn.
        assert names.remove(lamp.name) == 1
        names.register(lamp.name, lamp.uri)
    gone(bus_caller, lamp.name)
    assert served(bus_caller, f"{lamp.name}/set", [3]).result == [3, "nobody"]


def test_a_killed_server_is_not_on_the_bus_until_it_is_back(program, bus_caller):
    shop = program("shop.py").wait_for("Ready.")
    served(bus_caller, "server/welcomeMessage", ["Dune"])
    shop.close()
    gone(bus_caller, "server")
    program("shop.py").wait_for("Ready.")
    assert served(bus_caller, "server/welcomeMessage", ["Dune"]).result == "Buku dengan judul Dune berhasil dibeli!"


def gone(caller, object):
    """Waits until a served object has left the bus."""
    caller.registry.until(lambda _: not any(entries(caller, object)), f"{object} gone from the bus")


def test_names_of_the_bus_are_not_taken_over(pyro, lamp):
    with pyro.locate() as names:
        with pytest.raises(pyro.errors.NamingError, match="object of the bus"):
            names.register("calculator", lamp.uri)
        with pytest.raises(pyro.errors.NamingError, match="`dial`"):
            names.register("far", "PYRO:x@192.0.2.1:5000")
        assert names.remove("calculator") == 0


class Program:
    """A program of pyro/, whose standard output is read line by line."""

    def __init__(self, gateway, name, *arguments):
        environment = dict(os.environ, PYRO_NS_HOST="127.0.0.1", PYRO_NS_PORT=str(gateway.port), PYRO_HOST="127.0.0.1")
        command = [sys.executable, str(PROGRAMS / name), *arguments]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_for(self, text):
        lines = iter(self.process.stdout.readline, "")
        assert any(text in line for line in lines), f"{text!r} was not said"
        return self

    def ask(self, text):
        """All that the program says when it is given a line."""
        return self.process.communicate(f"{text}\n", PATIENCE)[0]

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def program(gateway):
    started = []

    def start(name, *arguments):
        started.append(Program(gateway, name, *arguments))
        return started[-1]

    yield start
    for running in started:
        running.close()
    with Four.locate() as names:
        names.remove(prefix="example.")
        names.remove(prefix="Insult")
        names.remove("server")


def test_the_three_cities(program, bus_caller):
    ring = ("bandung", "lembang", "subang")
    for city, following in zip(ring, (*ring[1:], ring[0]), strict=True):
        program("city.py", city, following).wait_for(f"server_{city} started")
    passed = [f"telah melewati {city}" for city in ring]
    for start, expected in [
        ("hello", [*passed, "selesai pada bandung"]),
        ("Bandung", [*passed, "selesai pada bandung"]),
        ("bandung", ["selesai pada bandung"]),
        ("lembang", [passed[0], "selesai pada lembang"]),
        ("subang", [*passed[:2], "selesai pada subang"]),
    ]:
        assert program("trip.py").ask(start) == f"Kota Awal ? {expected}\n"
        assert served(bus_caller, "example.chainTopology.bandung/process", [[start]]).result == expected


def test_the_shop(program, bus_caller):
    program("shop.py").wait_for("Ready.")
    for title in ["Dune", "Laskar Pelangi é", ""]:
        expected = f"Buku dengan judul {title} berhasil dibeli!"
        assert program("buy.py").ask(title) == f"Mau beli buku dengan judul apa? {expected}\n"
        assert served(bus_caller, "server/welcomeMessage", [title]).result == expected


def test_the_books_of_the_library(program, bus_caller):
    numbers = ("1", "2", "3", "4")
    books = [program("book.py", book, following) for book, following in zip(numbers, (*numbers[1:], "1"), strict=True)]
    for number, book in zip(numbers, books, strict=True):
        book.wait_for(f"Buku {number} mulai dibaca")
    expected = [*(f"Buku {number} sudah selesai di baca!" for number in numbers), "Kembali ke buku 1"]
    with Four.Proxy("PYRONAME:example.chainTopology.1") as chain:
        assert chain.status(["hello"]) == expected
    assert served(bus_caller, "example.chainTopology.1/status", [["hello"]]).result == expected
    books[0].wait_for("Kembali ke buku 1; Buku akan di ulang dari halaman 1")


def test_the_insult_service(program, bus_caller):
    program("insults.py").wait_for("Services started")
    added = served(bus_caller, "InsultService/add_insult", [["Tonto", "bobo", "tonto"]]).result
    assert added == ["Insulto registrado: tonto", "Insulto registrado: bobo", "Insulto ya registrado: tonto"]
    with Four.Proxy("PYRONAME:InsultFilterService") as texts:
        assert texts.add_text("Eres tonto, BOBO!") == ["Texto registrado: Eres CENSORED, CENSORED!"]
    again = served(bus_caller, "InsultFilterService/add_text", ["Eres bobo, tonto!"]).result
    assert again == ["Texto ya registrado: Eres CENSORED, CENSORED!"]
    [kept] = served(bus_caller, "InsultFilterService/get_texts").result
    assert (kept["id"], kept["text"]) == (1, "Eres CENSORED, CENSORED!")
    with Five.Proxy("PYRONAME:InsultService") as service:
        assert service.get_insults() == ["tonto", "bobo"]


def test_an_hmac_key_is_needed_where_there_is_one(broker, tmp_path):
    (tmp_path / "key").write_text("s3cret\n")
    config = tmp_path / "nodes.toml"
    config.write_text('[[echo]]\nname = "echo"\n[pyro]\nlisten = "127.0.0.1:0"\nhmac_key_file = "key"\n')
    node = Node(broker, "echo", "pyro", root="pyrokey", config=str(config), serving=("echo",))
    try:
        port = node.wait_for_log(r"Pyro on 127\.0\.0\.1:(\d+)")[1]
        uri = f"PYRO:echo@127.0.0.1:{port}"
        with Pyro4.Proxy(uri) as echo:
            echo._pyroHmacKey = b"s3cret"
            assert echo.echo("x") == "x"
        for proxy in (Pyro4.Proxy(uri), Pyro5.api.Proxy(uri)):
            with proxy, pytest.raises((Pyro4.errors.CommunicationError, Pyro5.errors.CommunicationError)):
                proxy._pyroBind()
    finally:
        node.close()


def test_tls(broker, tmp_path, monkeypatch):
    folder = layers.certificates()
    config = tmp_path / "nodes.toml"
    files = f'certificate = "{folder / "server.pem"}"\nkey = "{folder / "server.key"}"\n'
    config.write_text(f'[[echo]]\nname = "echo"\n[pyro]\nlisten = "127.0.0.1:0"\n{files}')
    node = Node(broker, "echo", "pyro", root="pyrotls", config=str(config), serving=("echo",))
    try:
        port = node.wait_for_log(r"Pyro on 127\.0\.0\.1:(\d+) by TLS")[1]
        uri = f"PYRO:echo@127.0.0.1:{port}"
        with Five.Proxy(uri) as plain, pytest.raises(Pyro5.errors.CommunicationError):
            plain._pyroBind()
        for pyro in (Four, Five):
            monkeypatch.setattr(pyro.module.config, "SSL", True)
            monkeypatch.setattr(pyro.module.config, "SSL_CACERTS", layers.authority())
            with pyro.Proxy(uri) as echo:
                assert echo.echo("x" * 100_000) == "x" * 100_000
    finally:
        node.close()
