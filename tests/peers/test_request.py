"""Request and reply: mosquitto_rr sends requests, paho replies."""

import threading

import pytest

from clients import Process, pub, rr

pytestmark = pytest.mark.mosquitto_tools


@pytest.fixture
def responder(broker, name, connect):
    """Answers each request on `name` with its payload in capitals, until the test ends."""
    client = connect(broker)
    client.subscribe(name, qos=1)

    def serve():
        while True:
            request = client.messages.get()
            if request is None:
                return
            properties = {"ContentType": "text/plain"}
            if data := request.properties.get("CorrelationData"):
                properties["CorrelationData"] = data
            topic = request.properties.get("ResponseTopic", f"{name}/reply")
            client.publish(topic, request.payload.upper(), qos=1, wait=False, **properties)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield client
    client.messages.put(None)
    thread.join(10)


def test_mosquitto_rr_gets_its_reply(broker, name, responder):
    assert rr(broker, "-t", name, "-e", f"{name}/reply", "-m", "hello", "-q", 1, "-W", 10) == b"HELLO\n"


def test_mosquitto_rr_over_3_1_1(broker, name, responder):
    got = rr(broker, "-V", "mqttv311", "-t", name, "-e", f"{name}/reply", "-m", "hello", "-q", 1, "-W", 10)
    assert got == b"HELLO\n"


def test_a_reply_carries_correlation_and_content_type(broker, name, responder):
    options = ["-D", "publish", "correlation-data", "42", "-F", "%D %C %p"]
    got = rr(broker, "-t", name, "-e", f"{name}/reply", "-m", "x", "-q", 2, "-W", 10, *options)
    assert got == b"42 text/plain X\n"


def test_a_large_request(broker, name, responder):
    """As large as a command line allows."""
    got = rr(broker, "-t", name, "-e", f"{name}/reply", "-m", "abcdefgh" * 15_000, "-q", 1, "-W", 10)
    assert got == b"ABCDEFGH" * 15_000 + b"\n"


def test_nobody_answers(broker, name):
    rr(broker, "-t", name, "-e", f"{name}/reply", "-m", "x", "-W", 1, code=27)


def test_many_one_request_clients(broker, name, responder):
    for number in range(40):
        got = rr(broker, "-t", name, "-e", f"{name}/reply/{number}", "-m", f"request {number}", "-q", 1, "-W", 10)
        assert got == f"REQUEST {number}\n".encode()


def test_requests_at_one_time(broker, name, responder):
    asking = [
        Process("mosquitto_rr", broker, "-t", name, "-e", f"{name}/{number}", "-m", f"r{number}", "-q", 1, "-W", 10)
        for number in range(20)
    ]
    try:
        assert [one.output() for one in asking] == [f"R{number}\n".encode() for number in range(20)]
    finally:
        for one in asking:
            one.close()


def test_a_reply_to_a_requester_that_left(broker, name, responder, connect):
    """The replying client is told that nobody subscribes any more."""
    late = connect(broker)
    assert late.publish(f"{name}/reply", b"too late", qos=1).reason == 0x10
    assert rr(broker, "-t", name, "-e", f"{name}/reply", "-m", "next", "-q", 1, "-W", 10) == b"NEXT\n"
