"""Expected outcomes where the two brokers differ. docs/peers.md quotes the standard for each difference and says which
broker is right; test_differences.py checks that the two lists are equal."""

DIFFERENCES = {
    "takeover-reason": {"rantai": 0x8E, "mosquitto": None},
    "wills-at-the-end-of-a-session": {"rantai": 1, "mosquitto": 0},
    "longest-session-expiry": {"rantai": 604_800, "mosquitto": 4_294_967_295},
    "lost-member-messages": {"rantai": "to another", "mosquitto": "stay lost"},
    "overlapping-copies": {"rantai": [[2, 1, 2, 3]], "mosquitto": [[0, 1], [1, 3], [2, 2]]},
    "aliases-to-receivers": {"rantai": True, "mosquitto": False},
    "retained-to-shared": {"rantai": 0, "mosquitto": 1},
    "no-local-on-shared": {"rantai": "refused", "mosquitto": "granted"},
    "keep-alive-reason": {"rantai": [0x8D], "mosquitto": []},
    "nobody-subscribed-qos-1": {"rantai": 0x10, "mosquitto": 0x10},
    "nobody-subscribed-qos-2": {"rantai": 0x10, "mosquitto": 0},
    "publish-to-dollar": {"rantai": 0x87, "mosquitto": 0x10},
    "live-behind-expired": {"rantai": 20, "mosquitto": 0},
    "lines-around-one-too-large": {"rantai": ["1", "2", "3"], "mosquitto": ["1"]},
    "receive-maximum-kept-in-a-burst": {"rantai": True, "mosquitto": False},
    "connack-wrong-4": {"rantai": 4, "mosquitto": 5},
    "connack-wrong-5": {"rantai": 0x86, "mosquitto": 0x87},
    "connack-anonymous-4": {"rantai": 5, "mosquitto": 5},
    "connack-anonymous-5": {"rantai": 0x87, "mosquitto": 0x87},
    "wildcard-response-topic": {"rantai": 0x82, "mosquitto": None},
    "refusal-log-line": {"rantai": "stranger-9", "mosquitto": "<unknown>.*not authorised"},
    "caller": {"rantai": "grâce", "mosquitto": "ada"},
    "shutdown-reason": {"rantai": 0x8B, "mosquitto": None},
    "port-in-use": {"rantai": "error: cannot listen on 127.0.0.1:{port}: address already in use", "mosquitto": "Address already in use"},
}


def expected(broker, identifier):
    """Returns the outcome of `identifier` with this broker."""
    return DIFFERENCES[identifier][broker.kind]
