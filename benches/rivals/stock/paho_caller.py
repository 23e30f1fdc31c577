"""Calls `echo.echo` with paho as it comes, one call after the other.

Carries out each line it reads, `PORT QOS WARM_UP LENGTH` (seconds): a line "CALLS COUNTED", then the times of the calls
that ended after the warm-up, in nanoseconds, as native 64-bit integers.
"""

import array
import os
import queue
import sys
import time

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TEXT = b'"' + b"x" * 60 + b'"'
PATIENCE = 10


class Caller:
    def __init__(self, port, qos):
        self._qos = qos
        self._answers = queue.Queue()
        client_id = f"paho-{os.getpid()}"
        self._reply = f"rantai/reply/echo/{client_id}"
        subscribed = queue.Queue()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(self._reply, qos)
        self._client.on_subscribe = lambda *_: subscribed.put(None)
        self._client.on_message = lambda _client, _data, message: self._answers.put(message)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        subscribed.get(timeout=PATIENCE)

    def call(self, number):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = self._reply
        properties.CorrelationData = number.to_bytes(16, "big")
        self._client.publish("rantai/call/echo/echo", TEXT, self._qos, properties=properties)
        answer = self._answers.get(timeout=PATIENCE)
        assert answer.payload == TEXT, answer.payload
        assert answer.properties.CorrelationData == properties.CorrelationData

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def measure(port, qos, warm_up, length):
    caller, made, times = Caller(port, qos), 0, array.array("Q")
    counted = time.perf_counter_ns() + int(warm_up * 1e9)
    end = counted + int(length * 1e9)
    while (began := time.perf_counter_ns()) < end:
        caller.call(made)
        made += 1
        ended = time.perf_counter_ns()
        if counted <= ended < end:
            times.append(ended - began)
    caller.close()
    return made, times


print("reading", file=sys.stderr, flush=True)
for line in sys.stdin:
    port, qos, warm_up, length = line.split()
    made, times = measure(int(port), int(qos), float(warm_up), float(length))
    sys.stdout.buffer.write(f"{made} {len(times)}\n".encode() + times.tobytes())
    sys.stdout.buffer.flush()
