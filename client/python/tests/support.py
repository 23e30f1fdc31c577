"""Brokers, nodes and commands as processes of their own, on free ports of this machine."""

import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from rantai.address import Tls
from rantai.bus import Bus
from rantai.wire.message import Properties, Publish

HERE = pathlib.Path(__file__).parent
#: Seconds after which something that should come does not come any more, on a machine that is busy.
PATIENCE = 60.0


def rantai():
    """The program under test beside this package: `$RANTAI`, else the newest build."""
    chosen = os.environ.get("RANTAI")
    if chosen:
        return str(pathlib.Path(chosen).resolve())
    target = HERE.parents[2] / "target"
    builds = [target / profile / "rantai" for profile in ("release", "debug")]
    builds = [build for build in builds if build.exists()]
    if not builds:
        raise RuntimeError("no binary `rantai`: run `cargo build --release -p rantai-cli`, or set RANTAI")
    return str(max(builds, key=lambda build: build.stat().st_mtime))


def tool(name):
    """The path of one of mosquitto's programs; Debian puts the broker where only root looks."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise RuntimeError(f"no `{name}`: install the packages mosquitto and mosquitto-clients")
    return found


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def eventually(look, patience=PATIENCE):
    """Calls `look` until it returns something true, and returns that."""
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing true within {patience} s, but {found!r}")
        time.sleep(0.02)


class Process:
    """A process whose output is read by a thread."""

    def __init__(self, *command, cwd=None, env=None):
        self.lines = []
        self._new = threading.Condition()
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            with self._new:
                self.lines.append(line.rstrip("\n"))
                self._new.notify_all()
        with self._new:
            self.lines.append(None)
            self._new.notify_all()
        self._process.stdout.close()

    def until(self, pattern, patience=PATIENCE):
        """Waits for a line that matches, and returns the match."""
        deadline = time.monotonic() + patience
        seen = 0
        with self._new:
            while True:
                for line in self.lines[seen:]:
                    if line is None:
                        raise AssertionError(f"it ended before {pattern!r}: {self.lines}")
                    found = re.search(pattern, line)
                    if found:
                        return found
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if left <= 0 or not self._new.wait(left):
                    raise AssertionError(f"no line with {pattern!r} within {patience} s: {self.lines}")

    @property
    def pid(self):
        return self._process.pid

    def signal(self, number):
        self._process.send_signal(number)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def wait(self, patience=PATIENCE):
        return self._process.wait(patience)

    def stop(self, patience=PATIENCE):
        """Ends the process by SIGTERM, and returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.returncode


class Broker:
    """A broker: `rantai broker` or mosquitto, with further lines of configuration in the broker's own language."""

    def __init__(self, kind, folder, config="", port=None):
        self.kind = kind
        self.port = port or free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._folder = pathlib.Path(folder)
        self._config = config
        self.start()

    def start(self):
        path = self._folder / f"{self.kind}-{self.port}.conf"
        if self.kind == "rantai":
            path.write_text(self._config)
            options = ("--config", str(path)) if self._config else ("--port", str(self.port))
            self.process = Process(rantai(), "broker", *options)
            self.process.until("listening on")
            return
        path.write_text(re.sub(r"(?m)^listener .*", f"listener {self.port} 127.0.0.1", MOSQUITTO) + self._config)
        self.process = Process(tool("mosquitto"), "-c", str(path))
        eventually(self._is_there)

    def _is_there(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self):
        self.process.kill()

    def stop(self):
        self.process.stop()


#: As config/mosquitto.conf, which an sdist does not have.
MOSQUITTO = """listener 1883 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
"""


def run(*command, stdin=None, patience=PATIENCE):
    """Runs a command; returns its exit code, output and error output."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=patience)
    return done.returncode, done.stdout, done.stderr


def python_node(url, *objects, node=None, options=(), env=None):
    """A node of this package in a process of its own, which serves classes of `objects.py`: CLASS or CLASS=NAME.

    To be waited for by `until("^ready")`.
    """
    command = [sys.executable, "-m", "rantai", "serve", *(f"objects:{o}" for o in objects), "--broker", url, *options]
    if node:
        command += ["--node", node]
    return Process(*command, cwd=HERE, env=env)


class Wire:
    """A plain MQTT client: what a device sends and sees."""

    def __init__(self, url):
        self.bus = Bus(url, root="rantai", client_id=None, user=None, password=None, tls=Tls(), kind="wire")
        self.messages = queue.Queue()
        self.bus.add(self, "call", "at", "all", "reply", "event", "name", "node")
        self.bus.start()

    def connected(self):
        pass

    def disconnected(self):
        pass

    def received(self, message):
        self.messages.put(message)

    def subscribe(self, *filters):
        granted = threading.Event()
        self.bus.loop.post(self.bus.connection.subscribe, [(f, False) for f in filters], lambda codes: granted.set())
        assert granted.wait(PATIENCE)

    def publish(self, topic, payload=b"", retain=False, qos=1, **properties):
        acknowledged = queue.Queue()
        message = Publish(topic, payload, Properties(**properties), qos, retain)
        done = (lambda code, said: acknowledged.put(code)) if qos else None
        self.bus.loop.post(self.bus.connection.publish, message, done)
        return acknowledged.get(timeout=PATIENCE) if qos else None

    def next(self, patience=PATIENCE):
        return self.messages.get(timeout=patience)

    def none_within(self, seconds):
        """Asserts that no message comes for so long."""
        try:
            message = self.messages.get(timeout=seconds)
        except queue.Empty:
            return
        raise AssertionError(f"a message came: {message}")

    def close(self):
        self.bus.close()


def certificates(folder):
    """Makes an authority (`ca.pem`) and a server's certificate in a folder."""
    for arguments in (("ca", str(folder)), ("server", str(folder), "--name", "127.0.0.1", "--name", "localhost")):
        code, _, problem = run(rantai(), "cert", *arguments)
        assert code == 0, problem


def password_hash(password):
    """The record of a password for `[[users]]`."""
    code, said, problem = run(rantai(), "passwd", "--hash", "--stdin", stdin=f"{password}\n")
    assert code == 0, problem
    return said.strip()
