"""MQTT over WebSocket with common clients: paho, mqtt.js in Node and in a browser, and frames by hand."""

import functools
import http.server
import json
import queue
import re
import shutil
import subprocess
import threading

import paho.mqtt.client as paho
import pytest
import websocket
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from brokers import ROOT, Missing
from nodes import Node
from tap import PATIENCE

pytestmark = pytest.mark.tcp("its listeners are its own")

NODE_MODULES = ROOT / "target" / "node" / "node_modules"
# Below and above each length that a frame's header has a form for. mosquitto 2.0.11 takes a second for each piece of a frame
# above some kilobytes.
SIZES = {"rantai": (0, 1, 100, 200, 65_000, 70_000, 1_000_000), "mosquitto": (0, 1, 100, 200, 2_000)}
VERSIONS = {"3.1": paho.MQTTv31, "3.1.1": paho.MQTTv311, "5": paho.MQTTv5}


def program(*names):
    for name in names:
        if found := shutil.which(name):
            return found
    raise Missing(f"no `{names[0]}`: run `.ci/packages`")


@pytest.fixture
def web(start_broker):
    """A broker that speaks WebSocket, too."""
    # Without users, also where other tests have some: who logs in says nothing about frames.
    return start_broker(websockets=True, users={})


class Paho:
    """A paho client over WebSocket, connected."""

    def __init__(self, broker, version):
        self.messages = queue.Queue()
        connected = queue.Queue()
        clean = None if version == paho.MQTTv5 else True
        self._paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, protocol=version, transport="websockets", clean_session=clean
        )
        self._paho.ws_set_options(path="/mqtt")
        self._paho.on_connect = lambda _c, _u, _f, reason, _p: connected.put(reason)
        self._paho.on_subscribe = lambda _c, _u, _m, reasons, _p: connected.put(reasons)
        self._paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self._paho.connect("127.0.0.1", broker.web_port)
        self._paho.loop_start()
        assert connected.get(timeout=PATIENCE) == 0
        self._acknowledged = connected

    def subscribe(self, topic):
        self._paho.subscribe(topic, 2)
        self._acknowledged.get(timeout=PATIENCE)

    def publish(self, topic, payload, qos):
        self._paho.publish(topic, payload, qos).wait_for_publish(PATIENCE)

    def close(self):
        self._paho.disconnect()
        self._paho.loop_stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_paho_publishes_and_is_published_to(web, version, name):
    client = Paho(web, VERSIONS[version])
    try:
        client.subscribe(name)
        for size in SIZES[web.kind]:
            for qos in (0, 1, 2):
                client.publish(name, b"x" * size, qos)
                message = client.messages.get(timeout=PATIENCE)
                assert (len(message.payload), message.qos) == (size, qos)
    finally:
        client.close()


MQTT_JS = """
const mqtt = require("mqtt");
const [url, version, topic, sizes] = process.argv.slice(1);
const protocolId = version === "3" ? "MQIsdp" : "MQTT";
const client = mqtt.connect(url, { protocolVersion: Number(version), protocolId, reconnectPeriod: 0 });
client.on("error", (error) => { console.error(error.message); process.exit(1); });
const expected = [];
client.on("message", (_, payload) => {
  const size = expected.shift();
  if (payload.length !== size) { console.error(`${payload.length} for ${size}`); process.exit(1); }
  if (expected.length === 0) client.end(false, () => { console.log("done"); });
});
client.on("connect", () => client.subscribe(topic, { qos: 2 }, () => {
  for (const size of JSON.parse(sizes)) {
    for (const qos of [0, 1, 2]) { expected.push(size); }
  }
  // One after the other: QoS 0 would overtake QoS 2.
  const send = ([size, ...sizes]) => {
    if (size === undefined) return;
    client.publish(topic, Buffer.alloc(size, 1), { qos: sizes.length % 3 }, () => send(sizes));
  };
  send([...expected]);
}));
"""


@pytest.mark.parametrize("version", (3, 4, 5))
def test_mqtt_js_in_node_publishes_and_is_published_to(web, version, name):
    if not (NODE_MODULES / "mqtt").exists():
        raise Missing("no mqtt.js in target/node: run `.ci/packages`")
    url = f"ws://127.0.0.1:{web.web_port}/mqtt"
    ran = subprocess.run(
        [program("node"), "-e", MQTT_JS, url, str(version), name, json.dumps(SIZES[web.kind])],
        env={"NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ran.stdout, ran.stderr) == ("done\n", "")


CONNECT = bytes.fromhex("100d00044d5154540502003c000000")


def test_the_subprotocol_is_the_one_that_was_offered(web):
    url = f"ws://127.0.0.1:{web.web_port}/mqtt"
    socket = websocket.create_connection(url, timeout=PATIENCE, subprotocols=["wamp", "mqtt"])
    try:
        assert socket.getsubprotocol() == "mqtt"
        socket.send_binary(CONNECT)
        assert socket.recv()[:1] == b"\x20"
    finally:
        socket.close()


@pytest.mark.parametrize("start_broker", ["rantai"], indirect=True)
@pytest.mark.parametrize(
    "options, path, status",
    [
        ({"subprotocols": ["mqtt"], "origin": "http://elsewhere.example"}, "/mqtt", 403),
        ({"subprotocols": ["mqtt"]}, "/other", 404),
        ({}, "/mqtt", 400),
    ],
)
def test_others_are_refused_and_told_why(web, options, path, status):
    url = f"ws://127.0.0.1:{web.web_port}{path}"
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(url, timeout=PATIENCE, **options)
    assert refused.value.status_code == status
    assert web.wait_for_log("refused: ")


@pytest.fixture
def page(tmp_path, web):
    """Serves the page of docs/websocket.md; only the port of the broker is changed."""
    guide = (ROOT / "docs" / "websocket.md").read_text()
    text = re.search(r"<!-- file: index.html -->\n```html\n(.*?)^```$", guide, re.M | re.S)[1]
    assert ":8083/mqtt" in text
    (tmp_path / "index.html").write_text(text.replace(":8083/mqtt", f":{web.web_port}/mqtt"))
    shutil.copy(NODE_MODULES / "mqtt" / "dist" / "mqtt.min.js", tmp_path)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(program("chromedriver")))
    yield driver
    driver.quit()


def test_the_page_of_the_guide_adds_two_numbers(web, page, browser):
    node = Node(web, "calculator")
    try:
        browser.get(page)
        wait = WebDriverWait(browser, PATIENCE)
        wait.until(lambda driver: driver.find_element("id", "state").text == "connected")
        browser.find_element("css selector", "button").click()
        wait.until(lambda driver: driver.find_element("css selector", "output").text)
        assert float(json.loads(browser.find_element("css selector", "output").text)) == 5
        severe = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
        assert [line for line in severe if "favicon" not in line] == []
    finally:
        node.close()


@pytest.mark.parametrize("start_broker", ["rantai"], indirect=True)
def test_a_page_of_another_host_is_not_let_in(web, page, browser):
    # The broker is reached by 127.0.0.1, the page by another name of the same machine.
    browser.get(page.replace("127.0.0.1", "localhost"))
    url = f"ws://127.0.0.1:{web.web_port}/mqtt"
    script = f'const done = arguments[0]; const s = new WebSocket("{url}", "mqtt");'
    script += 's.onopen = () => done("open"); s.onerror = () => done("refused");'
    assert browser.execute_async_script(script) == "refused"
    assert web.wait_for_log("refused: an origin that is not let in")
