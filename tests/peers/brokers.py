"""Brokers under test, each a process on a free loopback port, which ends with its test."""

import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading

import layers
from tap import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parents[2]

# With users and access rules on, unless a test has users of its own: only our broker has such rules. By another transport
# than TCP, too, our broker alone is of interest.
USERS = bool(os.environ.get("RANTAI_TEST_USERS"))
KINDS = ("rantai",) if USERS or layers.TRANSPORT != "tcp" else ("rantai", "mosquitto")

# Who logs in where there are users: name, password, and roles. A gateway hands on events that its node may watch.
ADMIN = ("root", "t0p", ["admin"])
NODE = ("pi", "n0de", ["node", "observer"])
CALLER = ("ada", "c4ller", ["caller"])


class Missing(Exception):
    """A required peer is not installed: the test fails instead of being skipped."""


def rantai_binary():
    """Returns `$RANTAI_BIN`, else the newest build."""
    if chosen := os.environ.get("RANTAI_BIN"):
        return pathlib.Path(chosen)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    builds = [target / profile / "rantai" for profile in ("debug", "release")]
    builds = [build for build in builds if build.exists()]
    if not builds:
        raise Missing("no binary `rantai`: run `cargo build --release`, or set RANTAI_BIN")
    return max(builds, key=lambda build: build.stat().st_mtime)


def tool(name):
    """Returns the path of a program of mosquitto's; Debian puts the broker into a folder of root's PATH only."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise Missing(f"no `{name}`: install the packages mosquitto and mosquitto-clients")
    return found


class Broker:
    """A running broker. `settings` are those named in `Settings`, independent of each broker's own keys. `port` is its
    port, or the path of its unix socket."""

    def __init__(self, kind, directory, **settings):
        self.kind = kind
        self.transport = layers.TRANSPORT if kind == "rantai" else "tcp"
        self.log = []
        self._directory = pathlib.Path(directory)
        self._settings = dict(settings)
        self.logs_in = USERS and kind == "rantai" and "users" not in settings
        self._changed = threading.Condition()
        self.web_port = free_port() if settings.get("websockets") else None
        self.start()

    def login(self, user):
        """Returns name and password of a user, or None without users."""
        return user[:2] if self.logs_in else None

    def url(self, user, port=None):
        """Returns its address, or that of a tap in front of it, with name and password of a user if users log in."""
        if self.transport == "unix" and not port:
            return f"unix:{self.port}"
        login = "{}:{}@".format(*user) if (user := self.login(user)) else ""
        schemes = {"tls": "mqtts", "ws": "ws", "wss": "wss"}
        path = "/mqtt" if layers.uses_web(self.transport) else ""
        return f"{schemes.get(self.transport, 'mqtt')}://{login}127.0.0.1:{port or self.port}{path}"

    def environment(self):
        """Returns the environment variables that our programs need in addition to the URL."""
        return {"RANTAI_CA": layers.authority()} if layers.uses_tls(self.transport) else {}

    def start(self):
        """Starts the process and returns when it accepts connections."""
        start = {"rantai": self._start_rantai, "mosquitto": self._start_mosquitto}[self.kind]
        self.port = start()

    def stop(self):
        """Stops the broker by SIGTERM; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self):
        """Kills the process if it is still running."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)

    def wait_for_log(self, pattern):
        """Returns the first log line that matches `pattern`."""
        found = None

        def search():
            nonlocal found
            found = next(filter(None, (re.search(pattern, line) for line in self.log)), None)
            return found or self.process.poll() is not None

        with self._changed:
            self._changed.wait_for(search, PATIENCE)
            assert found, f"{self.kind} did not log {pattern!r}:\n" + "".join(self.log[-50:])
            return found

    def _start_rantai(self):
        config = self._directory / "broker.toml"
        text = rantai_config(self._settings, self._directory, self.logs_in)
        if self.web_port:
            text += f'[[listeners]]\nprotocol = "ws"\naddress = "127.0.0.1:{self.web_port}"\n'
        command = [rantai_binary(), "broker", "--config", config]
        if self.transport == "tcp":
            command += ["--port", "0"]
        else:
            place = self._directory / "mqtt.sock" if self.transport == "unix" else "127.0.0.1:0"
            text = text + layers.listener(self.transport, place)
        config.write_text(text)
        if self._settings.get("durable"):
            command += ["--data-dir", self._directory / "data"]
        self._spawn(command)
        if self.transport == "unix":
            return self.wait_for_log(r"listening on unix:(\S+)")[1]
        other = f"(?!{self.web_port}$)" if self.web_port else ""
        return int(self.wait_for_log(rf"listening on 127\.0\.0\.1:{other}(\d+)$")[1])

    def _start_mosquitto(self):
        port = free_port()
        config = self._directory / "mosquitto.conf"
        text = mosquitto_config(self._settings, self._directory, port)
        if self.web_port:
            text += f"listener {self.web_port} 127.0.0.1\nprotocol websockets\n"
        config.write_text(text)
        self._spawn([tool("mosquitto"), "-v", "-c", config])
        self.wait_for_log(r"mosquitto version \S+ running")
        return port

    def _spawn(self, command):
        self.log = []
        # Variables of whoever runs the tests must not reach the broker.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RANTAI_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)
        threading.Thread(target=self._read_log, args=(self.process, self.log), daemon=True).start()

    def _read_log(self, process, log):
        for line in process.stderr:
            with self._changed:
                log.append(line)
                self._changed.notify_all()
        process.wait()
        with self._changed:
            self._changed.notify_all()


def free_port():
    """Returns a port that was free a moment ago, because mosquitto cannot report which one it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def record(password):
    """Returns a password record that is fast to create and to check: `$6$`, one round of SHA-512."""
    salt = os.urandom(12)
    digest = hashlib.sha512(password.encode() + salt).digest()
    return f"$6${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def password_file(settings, directory, by_mosquitto):
    """A file with the users of `settings`, written by `mosquitto_passwd` or by `rantai passwd`."""
    file = directory / "passwords"
    for name, password in settings["users"].items():
        if by_mosquitto:
            create = [] if file.exists() else ["-c"]
            command, line = [tool("mosquitto_passwd"), "-b", *create, file, name, password], ""
        else:
            command, line = [rantai_binary(), "passwd", file, name, "--stdin", "--mosquitto"], password
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE, input=line.encode())
    return file


def rantai_config(settings, directory, logs_in=False):
    limits = {
        "packet_bytes": settings.get("packet_bytes"),
        "keep_alive_s": settings.get("keep_alive"),
        "receive_maximum": settings.get("receive_maximum"),
        "topic_aliases": settings.get("topic_aliases"),
    }
    lines = ["sys_interval_s = 1"]
    if roots := settings.get("bus_roots"):
        lines.append(f"bus_roots = {roots!r}")
    foreign = settings.get("foreign_passwords")
    if foreign:
        lines.append(f'password_file = "{password_file(settings, directory, by_mosquitto=True)}"')
    lines.append("[limits]")
    lines += [f"{key} = {value}" for key, value in limits.items() if value is not None]
    users = {name: (password, ["admin"]) for name, password in settings.get("users", {}).items()}
    if logs_in:
        users = {name: (password, roles) for name, password, roles in (ADMIN, NODE, CALLER)}
    for name, (password, roles) in users.items():
        lines += ["[[users]]", f'name = "{name}"', f"roles = {json.dumps(roles)}"]
        if not foreign:
            lines.append(f'password = "{record(password)}"')
    return "\n".join(lines) + "\n"


def mosquitto_config(settings, directory, port):
    users = settings.get("users", {})
    lines = [
        f"listener {port} 127.0.0.1",
        "user root",
        "sys_interval 1",
        f"allow_anonymous {'false' if users else 'true'}",
        f"persistence {'true' if settings.get('durable') else 'false'}",
        f"persistence_location {directory}/",
        "set_tcp_nodelay true",
    ]
    names = {"packet_bytes": "max_packet_size", "keep_alive": "max_keepalive"}
    names |= {"receive_maximum": "max_inflight_messages", "topic_aliases": "max_topic_alias"}
    lines += [f"{theirs} {settings[ours]}" for ours, theirs in names.items() if ours in settings]
    if users:
        by_mosquitto = not settings.get("foreign_passwords")
        lines.append(f"password_file {password_file(settings, directory, by_mosquitto)}")
    # A bridge comes last: what follows would belong to it.
    lines += settings.get("bridge", [])
    return "\n".join(lines) + "\n"
