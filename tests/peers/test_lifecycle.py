"""The broker as a process: starting, stopping, and a port that is taken."""

import socket
import subprocess

import pytest

import brokers
from differences import expected


def test_sigterm_tells_the_clients_and_exits_0(start_broker, connect):
    broker = start_broker()
    new, old = connect(broker, version=5), connect(broker, version=4)
    new.subscribe("x", qos=1)
    assert broker.stop() == 0
    told = new.disconnected()
    assert (told and told.reason) == expected(broker, "shutdown-reason")
    assert old.disconnected() is None


def test_it_stops_while_messages_flow(start_broker, name, connect):
    broker = start_broker(durable=True)
    reader, writer = connect(broker), connect(broker)
    reader.subscribe(name, qos=1)
    for number in range(200):
        writer.publish(name, b"x" * 1_000, qos=1, wait=False)
    reader.receive()
    assert broker.stop() == 0


@pytest.mark.tcp("a port is taken")
def test_a_port_in_use_is_named(start_broker, tmp_path):
    broker = start_broker()
    if broker.kind == "rantai":
        command = [brokers.rantai_binary(), "broker", "--port", str(broker.port)]
    else:
        config = tmp_path / "second.conf"
        config.write_text(brokers.mosquitto_config({}, tmp_path, broker.port))
        command = [brokers.tool("mosquitto"), "-c", config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert done.returncode == 1
    assert expected(broker, "port-in-use").format(port=broker.port) in done.stderr


@pytest.mark.tcp("its bytes are those of no transport")
def test_a_connection_without_a_connect_hurts_nobody(broker, connect, name):
    with socket.create_connection(("127.0.0.1", broker.port)) as other:
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connect(broker).subscribe(name)
        other.settimeout(10)
        try:
            assert other.recv(100) == b""
        except ConnectionResetError:
            pass
