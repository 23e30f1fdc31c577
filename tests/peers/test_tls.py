"""mosquitto's clients, OpenSSL and paho over TLS and over a unix socket, at our broker."""

import re
import socket
import ssl
import subprocess
import threading

import paho.mqtt.client as paho
import pytest
from brokers import Broker, rantai_binary, tool
from layers import issue, issue_for_this_machine
from tap import PATIENCE

pytestmark = pytest.mark.tcp("its listeners are its own")


class TlsBroker(Broker):
    """A broker with TLS, with TLS for `ada` only, and with a unix socket."""

    def _start_rantai(self):
        folder = self._directory
        issue_for_this_machine(folder)
        issue(folder, "ada", "basicConstraints=critical,CA:FALSE")
        tls = 'protocol = "tls"\naddress = "127.0.0.1:0"\ncertificate = "server.pem"\nkey = "server.key"\n'
        unix = f'protocol = "unix"\nsocket = "{folder}/mqtt.sock"\nmode = "0600"\n'
        config = f'[[listeners]]\n{tls}\n[[listeners]]\n{tls}client_ca = "ca.pem"\n\n[[listeners]]\n{unix}'
        file = folder / "broker.toml"
        file.write_text(config)
        self._spawn([rantai_binary(), "broker", "--config", file])
        ports = []

        def search():
            ports[:] = [found[1] for line in self.log if (found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line))]
            return len(ports) == 2

        with self._changed:
            assert self._changed.wait_for(search, PATIENCE), "".join(self.log)
        self.certified_port = int(ports[1])
        return int(ports[0])


@pytest.fixture
def secure(tmp_path):
    running = TlsBroker("rantai", tmp_path)
    yield running
    running.kill()


def published(arguments, folder, port):
    """Returns what `mosquitto_sub` receives of a message that `mosquitto_pub` retains, both with these arguments."""
    where = ["-p", str(port), "-h", "127.0.0.1"] if port else ["--unix", f"{folder}/mqtt.sock"]
    publish = [tool("mosquitto_pub"), *where, *arguments, "-q", "1", "-r", "-t", "t", "-m", "hello"]
    subprocess.run(publish, cwd=folder, check=True, timeout=PATIENCE)
    subscribe = [tool("mosquitto_sub"), *where, *arguments, "-q", "1", "-t", "t", "-C", "1"]
    return subprocess.run(subscribe, cwd=folder, check=True, capture_output=True, timeout=PATIENCE).stdout


@pytest.mark.parametrize("version", ["311", "5"])
def test_clients_of_mosquitto_speak_tls(secure, tmp_path, version):
    assert published(["--cafile", "ca.pem", "-V", version], tmp_path, secure.port) == b"hello\n"


def test_clients_of_mosquitto_log_in_by_a_certificate(secure, tmp_path):
    own = ["--cafile", "ca.pem", "--cert", "ada.pem", "--key", "ada.key"]
    assert published(own, tmp_path, secure.certified_port) == b"hello\n"
    secure.wait_for_log(r"user=\"?ada")


def test_clients_of_mosquitto_without_their_certificate_are_refused(secure, tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        published(["--cafile", "ca.pem"], tmp_path, secure.certified_port)
    secure.wait_for_log("it has no client certificate")


def test_clients_of_mosquitto_use_a_unix_socket(secure, tmp_path):
    assert published([], tmp_path, None) == b"hello\n"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_openssl_is_answered_in_both_versions_of_tls(secure, tmp_path, version):
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", secure.port), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as stream,
    ):
        stream.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a")
        assert stream.recv(4) == b"\x20\x02\x00\x00"


def test_paho_speaks_tls(secure, tmp_path):
    got = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.tls_set(ca_certs=str(tmp_path / "ca.pem"))
    client.on_message = lambda *_: got.set()
    client.on_subscribe = lambda *_: client.publish("p", b"x" * 100_000, qos=1)
    client.on_connect = lambda *_: client.subscribe("p", 1)
    client.connect("127.0.0.1", secure.port)
    client.loop_start()
    assert got.wait(PATIENCE)
    client.disconnect()
    client.loop_stop()
