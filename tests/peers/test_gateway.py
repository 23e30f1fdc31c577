"""REST and SOAP with common clients: curl, zeep, a browser, a WebSocket, a validator of OpenAPI."""

import json
import logging
import shutil
import subprocess
import time
import warnings

import openapi_spec_validator
import pytest
import requests
import websocket
import zeep
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from brokers import ROOT, Missing
from nodes import Node
from tap import PATIENCE


@pytest.fixture(scope="module")
def gateway(bus, tmp_path_factory):
    """The gateways of config/gateway.toml, on their own ports; the objects are those of the bus."""
    text = (ROOT / "config" / "gateway.toml").read_text()
    text = text.replace("127.0.0.1:5151", "127.0.0.1:0").replace("127.0.0.1:8000", "127.0.0.1:0")
    config = tmp_path_factory.mktemp("gateway") / "gateway.toml"
    config.write_text(text)
    node = Node(bus.broker, "rest", "soap", config=str(config), serving=())
    try:
        node.rest = node.wait_for_log(r"REST on (http://\S+)")[1]
        node.soap = node.wait_for_log(r"SOAP on (http://\S+)")[1]
        yield node
    finally:
        node.close()


def program(*names):
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        raise Missing(f"no {' or '.join(names)}: install it")
    return found


def curl(*arguments):
    """Returns status and body."""
    command = [program("curl"), "-sS", "-m", str(PATIENCE), "-w", "\n%{http_code}", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    body, _, status = answer.rpartition("\n")
    return int(status), body


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/add?a=2&b=3", 200, {"result": 5}),
        ("/div?a=2&b=3", 200, {"result": 0.6666666666666666}),
        ("/div?a=1&b=0", 400, {"error": "Division by zero"}),
        ("/mul?a=1", 400, {"error": "Invalid input"}),
        ("/sub?a=one&b=1", 400, {"error": "Invalid input"}),
        ("/objects/calculator/add?a=2&b=3", 200, 5),
        ("/objects/calculator/rpc.ping", 200, "pong"),
    ],
)
def test_curl_gets(gateway, path, status, body):
    got = curl(gateway.rest + path)
    assert (got[0], json.loads(got[1])) == (status, body)


def test_curl_posts(gateway):
    data = ["-H", "Content-Type: application/json", "-d"]
    url = f"{gateway.rest}/objects/server/welcomeMessage"
    assert curl(*data, '["Dune"]', url) == (200, '"Buku dengan judul Dune berhasil dibeli!"')
    assert curl(*data, '{"name": "1984"}', url) == (200, '"Buku dengan judul 1984 berhasil dibeli!"')
    status, body = curl(*data, '{"title": "Dune"}', url)
    assert (status, json.loads(body)["error"]["code"]) == (422, -32602)
    # A form is what a page of somebody else may send unasked.
    assert curl("-d", "name=Dune", url)[0] == 415


def test_the_chain_is_reached_too(gateway):
    url = f"{gateway.rest}/objects/example.chainTopology.bandung/process"
    status, body = curl("-H", "Content-Type: application/json", "-d", '"hello"', url)
    assert (status, json.loads(body)[-1]) == (200, "selesai pada bandung")


def test_the_description_is_valid(gateway):
    document = json.loads(curl(gateway.rest + "/openapi.json")[1])
    openapi_spec_validator.validate(document)
    assert document["openapi"].startswith("3.1")
    assert "get" in document["paths"]["/objects/calculator/add"]


@pytest.fixture
def zeep_client(gateway, caplog):
    """Creates a zeep client for a WSDL that is parsed without warnings."""

    def made(path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with caplog.at_level(logging.WARNING):
                client = zeep.Client(f"{gateway.soap}{path}?wsdl")
        assert caplog.text == ""
        return client

    return made


def test_zeep_calls_both_operations(zeep_client):
    service = zeep_client("/").service
    for result, expected in [(service.add(10, 5), 15), (service.subtract(10, 5), 5), (service.add(-1, 1), 0)]:
        assert (result, type(result)) == (expected, int)
    assert service.add(a=1, b=2) == 3


def test_zeep_gets_faults(zeep_client):
    with pytest.raises(zeep.exceptions.Fault) as fault:
        zeep_client("/").service.add(2**31 - 1, 1)
    assert fault.value.code == "soap:Server"
    objects = zeep_client("/calculator").service
    assert objects.div(1, 2) == 0.5
    with pytest.raises(zeep.exceptions.Fault, match="zero") as fault:
        objects.div(1, 0)
    assert fault.value.detail is not None
    with pytest.raises(zeep.exceptions.ValidationError):
        zeep_client("/").service.add(1)


def test_zeep_sends_what_is_no_number(zeep_client):
    client = zeep_client("/calculator")
    message = client.create_message(client.service, "add", a=1, b=2)
    message.find(".//{*}b").text = "two"
    kind = {"Content-Type": "text/xml; charset=utf-8"}
    answer = client.transport.post_xml(client.service._binding_options["address"], message, kind)
    assert answer.status_code == 500 and b"soap:Client" in answer.content and b"expected double" in answer.content


def test_texts_arrive_as_they_were(zeep_client):
    shop = zeep_client("/server").service
    for title in ("Dune", "<b> & \"c\" 'd' ]]>", "Sejarah é 日本", ""):
        assert shop.welcomeMessage(title) == f"Buku dengan judul {title} berhasil dibeli!"


def test_events_by_websocket(gateway, bus, caller):
    url = f"{gateway.rest.replace('http', 'ws')}/events/example.chainTopology.bandung?event=hop"
    listener = websocket.create_connection(url, timeout=PATIENCE)
    try:
        assert caller.call("example.chainTopology.bandung/process", "hello").result
        told = json.loads(listener.recv())
        assert (told["event"], told["data"]["node"]) == ("hop", "bandung")
    finally:
        listener.close()
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(url, timeout=PATIENCE, origin="http://elsewhere.example")
    assert refused.value.status_code == 403


@pytest.fixture(scope="module")
def secure_gateway(bus, tmp_path_factory):
    """Both gateways with their own certificate, signed by `ca`."""
    folder = tmp_path_factory.mktemp("secure")
    certificate(folder)
    settings = "listen = '127.0.0.1:0'\ncertificate = 'cert.pem'\nkey = 'key.pem'\n"
    (folder / "gateway.toml").write_text(f"[rest]\n{settings}[soap]\n{settings}")
    node = Node(bus.broker, "rest", "soap", config=str(folder / "gateway.toml"), serving=())
    node.folder, node.ca = folder, str(folder / "cert.pem")
    try:
        node.rest = node.wait_for_log(r"REST on (https://\S+)")[1]
        node.soap = node.wait_for_log(r"SOAP on (https://\S+)")[1]
        yield node
    finally:
        node.close()


def certificate(folder):
    """Creates a certificate by openssl, for the address of the gateway."""
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    command = [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    options = ["-days", "2", "-subj", "/CN=gateway", "-addext", names]
    subprocess.run([*command, *files, *options], check=True, capture_output=True)


def test_curl_calls_by_https(secure_gateway):
    ours = ["--cacert", secure_gateway.ca]
    url = f"{secure_gateway.rest}/objects/calculator/add?a=2&b=3"
    assert curl(*ours, url) == (200, "5")
    assert curl(*ours, "--http2", url) == (200, "5"), "where curl would rather have HTTP/2"
    assert curl(*ours, "--tls-max", "1.2", url) == (200, "5")
    with pytest.raises(subprocess.CalledProcessError):
        curl(url)
    status, advice = curl(url.replace("https:", "http:"))
    assert status == 400 and "https://" in advice


def test_descriptions_name_https(secure_gateway):
    document = json.loads(curl("--cacert", secure_gateway.ca, f"{secure_gateway.rest}/openapi.json")[1])
    openapi_spec_validator.validate(document)
    assert document["servers"] == [{"url": f"{secure_gateway.rest}/"}]


def test_zeep_calls_by_https(secure_gateway):
    session = requests.Session()
    # Otherwise REQUESTS_CA_BUNDLE of this machine counts instead.
    session.trust_env, session.verify = False, secure_gateway.ca
    client = zeep.Client(f"{secure_gateway.soap}/calculator?wsdl", transport=zeep.Transport(session=session))
    assert client.service._binding_options["address"] == f"{secure_gateway.soap}/calculator"
    assert client.service.div(1, 2) == 0.5


def test_events_by_websocket_over_tls(secure_gateway, caller):
    url = f"{secure_gateway.rest.replace('https', 'wss')}/events/example.chainTopology.bandung?event=hop"
    listener = websocket.create_connection(url, timeout=PATIENCE, sslopt={"ca_certs": secure_gateway.ca})
    try:
        assert caller.call("example.chainTopology.bandung/process", "hello").result
        assert json.loads(listener.recv())["event"] == "hop"
    finally:
        listener.close()


def test_a_renewed_certificate_is_served_without_a_restart(secure_gateway):
    url = f"{secure_gateway.rest}/objects/calculator/add?a=2&b=3"
    certificate(secure_gateway.folder)
    deadline = time.monotonic() + PATIENCE
    while True:
        # Trusts the new certificate alone.
        try:
            assert curl("--cacert", secure_gateway.ca, url) == (200, "5")
            break
        except subprocess.CalledProcessError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    secure_gateway.wait_for_log("read the certificate .* again")


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1200,2000"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(program("chromedriver")))
    yield driver
    driver.quit()


def test_a_browser_tries_it(gateway, browser):
    browser.get(gateway.rest + "/")
    wait = WebDriverWait(browser, PATIENCE)

    def one(css):
        return wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, css))[0]

    def click(css):
        element = one(css)
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        wait.until(lambda _: element.is_displayed() and element.is_enabled())
        element.click()

    click("#operations-tag-calculator")
    add = "[id*='calculator'][id*='add'][id$='get']"
    click(f"{add} .opblock-summary-control")
    for name, value in (("a", "2"), ("b", "3")):
        one(f"{add} tr[data-param-name='{name}'] input").send_keys(value)
    click(f"{add} button.execute")
    assert one(f"{add} .live-responses-table .response-col_description pre").text.strip() == "5"
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert loaded and all(name.startswith((gateway.rest, "data:")) for name in loaded), loaded
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
