"""Makes the calls of `rantai conform caller`: caller.py URL. A call is a line of stdin, its outcome one of stdout."""

import json
import sys

import rantai


def outcome(client, call):
    method = client[call["object"]](deadline=call["deadline_ms"] / 1000).method(call["method"])
    params = call.get("params", [])
    try:
        if "params_hex" in call:
            result = method(bytes.fromhex(call["params_hex"]))
        elif isinstance(params, dict):
            result = method(**params)
        else:
            result = method(*params)
    except rantai.Fault as fault:
        return {"error": fault.to_wire()}
    return {"result_hex": result.hex()} if isinstance(result, bytes) else {"result": result}


with rantai.Client(sys.argv[1]) as connected:
    for line in sys.stdin:
        print(json.dumps(outcome(connected, json.loads(line))), flush=True)
