"""A disk that fills up under load, repeatedly at random moments, also with kill -9: a small tmpfs, which needs root to
be mounted. Acknowledged messages arrive, and the broker accepts messages again within 5 s after there is room."""

import os
import random
import socket
import threading
import time

import pytest

from tap import CONNACK, DISCONNECT, PATIENCE, PUBACK, PUBLISH
from test_full_disk import disk, running  # noqa: F401, fixtures

pytestmark = pytest.mark.tcp("it is about disks")

ROUNDS = int(os.environ.get("RANTAI_DISK_ROUNDS", "20"))
#: Seconds from room on the disk to the first acknowledgement.
RECOVERY = 5
SUBSCRIPTION = "load/#"


def string(text):
    return len(text).to_bytes(2, "big") + text.encode()


def frame(kind, body, flags=0):
    length, left = b"", len(body)
    while True:
        digit, left = left % 128, left // 128
        length += bytes([digit | (128 if left else 0)])
        if not left:
            return bytes([kind << 4 | flags]) + length + body


class Raw:
    """MQTT 5 by hand, so that the messages in flight are known exactly."""

    def __init__(self, port, client_id, persistent=False):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.settimeout(0.2)
        self.buffer = b""
        expiry = b"\x11\xff\xff\xff\xff" if persistent else b""
        flags = 0 if persistent else 2
        body = string("MQTT") + bytes([5, flags, 0, 0, len(expiry)]) + expiry + string(client_id)
        self.send(1, body)
        kind, _, body = self.next(PATIENCE)
        assert kind == CONNACK and body[1] == 0, body
        self.resumed = body[0] == 1

    def send(self, kind, body, flags=0):
        self.socket.sendall(frame(kind, body, flags))

    def next(self, patience=0.2):
        """Returns the next packet; None if none arrives in time. Raises EOFError at the end."""
        deadline = time.monotonic() + patience
        while (packet := self._whole()) is None:
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                if time.monotonic() >= deadline:
                    return None
                continue
            if not more:
                raise EOFError
            self.buffer += more
        return packet

    def _whole(self):
        length, shift, at = 0, 0, 1
        while True:
            if len(self.buffer) <= at:
                return None
            digit = self.buffer[at]
            length |= (digit & 127) << shift
            at, shift = at + 1, shift + 7
            if digit < 128:
                break
        if len(self.buffer) < at + length:
            return None
        kind, flags, body = self.buffer[0] >> 4, self.buffer[0] & 15, self.buffer[at : at + length]
        self.buffer = self.buffer[at + length :]
        return kind, flags, body

    def close(self):
        self.socket.close()


class Load(threading.Thread):
    """Publishes numbered messages at QoS 1 until it is stopped or its connection ends; `acknowledged` contains those
    that the broker has acknowledged."""

    def __init__(self, port, numbers, acknowledged, seed, greedy=False):
        super().__init__(daemon=True)
        self.random, self.pause = random.Random(seed), 0 if greedy else 0.001
        self.port, self.numbers, self.acknowledged = port, numbers, acknowledged
        self.stopped, self.refused, self.failure = threading.Event(), 0, None

    def run(self):
        try:
            self._publish()
        except (OSError, EOFError):
            pass
        except AssertionError as failure:
            self.failure = failure

    def _publish(self):
        client = Raw(self.port, "")
        in_flight, last = {}, 0
        while not self.stopped.is_set():
            while len(in_flight) < 16:
                number = next(self.numbers)
                last = last % 60_000 + 1
                in_flight[last] = number
                payload = f"{number}:".encode() + bytes(self.random.randrange(6_000))
                client.send(PUBLISH, string("load/x") + last.to_bytes(2, "big") + b"\0" + payload, 2)
            packet = client.next()
            if packet is None:
                continue
            kind, _, body = packet
            if kind == DISCONNECT:
                return
            assert kind == PUBACK, packet
            number = in_flight.pop(int.from_bytes(body[:2], "big"))
            reason = body[2] if len(body) > 2 else 0
            if reason == 0:
                self.acknowledged.add(number)
                time.sleep(self.pause)
            else:
                assert reason == 0x97 and b"disk" in body, body
                self.refused += 1
                time.sleep(0.005)
        client.close()

    def stop(self):
        """Stops publishing. Fails if the broker has sent a wrong answer."""
        self.stopped.set()
        self.join(PATIENCE)
        assert not self.is_alive()
        if self.failure:
            raise self.failure


def numbers():
    number = 0
    while True:
        number += 1
        yield number


def fill(full):
    """Takes all free room, while the broker writes."""
    with open(full.path / "fill", "ab", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass


def usage(full):
    """Returns the free space and the size of each file, for messages of failures."""
    about = os.statvfs(full.path)
    files = [path for path in full.path.rglob("*") if path.is_file()]
    sizes = {path.name: (path.stat().st_size, path.stat().st_blocks * 512) for path in files}
    return f"{about.f_bavail * about.f_frsize} bytes free, size and room of each file: {sizes}"


def drain(port, received, wanted=(), most=None):
    """Receives the messages queued for the subscriber, or `most` of them; returns whether its session was present.
    Waits longer for `wanted` messages, because the machine may be busy or the disk slow."""
    client = Raw(port, "keeper", persistent=True)
    taken, missing = 0, set(wanted) - received
    while (most is None or taken < most) and (packet := client.next(PATIENCE if missing else 0.5)):
        kind, flags, body = packet
        assert kind == PUBLISH and flags >> 1 & 3 == 1, packet
        at = 2 + int.from_bytes(body[:2], "big")
        number = int(body[at + 3 :].split(b":")[0])
        received.add(number)
        missing.discard(number)
        client.send(PUBACK, body[at : at + 2])
        taken += 1
    client.close()
    return client.resumed


@pytest.mark.parametrize("kill", [False, True], ids=["runs-on", "killed"])
def test_nothing_acknowledged_is_lost_and_it_works_within_seconds_of_room(disk, running, kill):  # noqa: F811
    seed = int(os.environ.get("RANTAI_SEED", "1"))
    chance = random.Random(seed)
    full = disk(24 << 10)
    acknowledged, received, count = set(), set(), numbers()

    def start():
        process = running("broker", "--port", "0", "--data-dir", full.path / "data")
        return process, int(process.wait_for_log(r"listening on \S+:(\d+)")[1])

    broker, port = start()
    keeper = Raw(port, "keeper", persistent=True)
    keeper.send(8, b"\0\1\0" + string(SUBSCRIPTION) + b"\1", 2)
    assert keeper.next(PATIENCE)[2][-1] == 1
    keeper.close()
    refused, longest = 0, 0
    for round_ in range(ROUNDS):
        where = f"round {round_} of seed {seed}"
        # Every third one by itself takes more than the disk has: then only its subscriber can make room.
        greedy = chance.random() < 1 / 3
        load = Load(port, count, acknowledged, chance.random(), greedy)
        load.start()
        time.sleep(chance.uniform(0.05, 0.5))
        fill(full)
        time.sleep(chance.uniform(0.05, 1.2))
        if kill:
            broker.kill()
            load.stop()
        elif chance.random() < 0.5:
            # Its subscriber takes some of it while the disk is full.
            assert drain(port, received, most=chance.randrange(200)), where
        full.free()
        if kill:
            broker, port = start()
        if greedy:
            load.stop()
            assert drain(port, received, acknowledged), f"{where}: the session is gone"
        began, before = time.monotonic(), len(acknowledged)
        if not load.is_alive():
            load.stop()
            refused += load.refused
            load = Load(port, count, acknowledged, chance.random())
            load.start()
        while len(acknowledged) == before:
            assert time.monotonic() - began < RECOVERY, f"{where}: nothing is taken; {usage(full)}; {''.join(broker.log[-5:])}"
            time.sleep(0.01)
        longest = max(longest, time.monotonic() - began)
        load.stop()
        refused += load.refused
        assert drain(port, received, acknowledged), f"{where}: the session is gone"
        missing = acknowledged - received
        assert not missing, f"{where}: {len(missing)} of {len(acknowledged)} are missing: {sorted(missing)[:9]}"
    print(
        f"\n{ROUNDS} rounds, {'killed' if kill else 'running on'}: {len(acknowledged)} acknowledged, none missing, "
        f"{refused} refused; at most {longest:.2f} s until it took messages again"
    )
    assert refused or kill, "the disk was never full"
    assert broker.process.poll() is None
