"""A device for MQTT 3.1.1, written with paho from PROTOCOL.md: device_311.py HOST PORT NAME NODE [USER PASSWORD]."""

import json
import secrets
import sys

import paho.mqtt.client as mqtt

host, port, name, node = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
epoch = secrets.token_hex(4)
NUMBER = (int, float)


class Fault(Exception):
    def __init__(self, code, message, **data):
        self.error = {"code": code, "message": message, "data": {"retryable": False, **data}}


def fail(kind):
    raise Fault(-32000, "as asked", kind=kind)


METHODS = {"add": (lambda a, b: a + b, [NUMBER, NUMBER]), "say": (str, [str]), "fail": (fail, [str])}


def call(method, params):
    if method not in METHODS:
        raise Fault(-32601, f"no method {method}")
    run, types = METHODS[method]
    if not isinstance(params, list) or len(params) != len(types) or not all(map(isinstance, params, types)):
        raise Fault(-32602, f"expected {len(types)} parameters by position")
    return run(*params)


def requested(client, _data, message):
    try:
        request = json.loads(message.payload)
        topic, key, method = request["reply_to"], request["id"], request["method"]
        is_known = topic.startswith("rantai/reply/") and not set("+#") & set(topic) and isinstance(method, str)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return
    if message.retain or not is_known:
        return
    try:
        answer = {"result": call(method, request.get("params", []))}
    except Fault as fault:
        answer = {"error": fault.error}
    client.publish(topic, json.dumps({"jsonrpc": "2.0", "id": key, **answer}), 1)


def state(word):
    return json.dumps({"v": 1, "state": word, "epoch": epoch})


def connected(client, *_):
    entry = {"v": 1, "object": name, "node": node, "epoch": epoch, "settled": True, "form": "json-rpc"}
    client.subscribe(f"$share/{name}/rantai/call/{name}", 1)
    client.publish(f"rantai/name/{name}/{node}", json.dumps(entry | {"methods": list(METHODS)}), 1, True)
    client.publish(f"rantai/node/{node}", state("ready"), 1, True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, node, protocol=mqtt.MQTTv311)
client.on_connect, client.on_message = connected, requested
client.will_set(f"rantai/node/{node}", state("lost"), 1, True)
if len(sys.argv) > 5:
    client.username_pw_set(*sys.argv[5:7])
client.connect(host, port)
client.loop_forever()
