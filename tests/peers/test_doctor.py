"""`rantai doctor` on mosquitto: open, with the limits of its defaults, and with rules that `rantai acl export` wrote."""

import json
import os
import subprocess

import pytest

import brokers
from clients import sub
from tap import PATIENCE

pytestmark = pytest.mark.tcp("it is about mosquitto")

ROLES = {"ada": "caller", "pi": "node", "root": "admin"}


def examine(port, *arguments, user=None):
    """Returns the report, the states of its items, and the exit code."""
    login = f"{user}:{user}@" if user else ""
    command = [brokers.rantai_binary(), "doctor", f"mqtt://{login}127.0.0.1:{port}", "--json", *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RANTAI_")}
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE * 3, env=environment)
    report = json.loads(done.stdout)
    return report, {item["id"]: item for item in report["items"]}, done.returncode


def retained(broker, *login):
    return sub(broker, *login, "-t", "#", "-W", 1, "-v", code=27)


@pytest.fixture
def mosquitto(tmp_path):
    """Starts mosquitto with lines of configuration."""
    started = []

    def start(*lines, **settings):
        # Those of a bridge stand at the end of the file as they are.
        started.append(brokers.Broker("mosquitto", tmp_path, bridge=list(lines), **settings))
        return started[-1]

    yield start
    for running in started:
        running.kill()


def test_an_open_mosquitto_works_and_is_open(mosquitto):
    broker = mosquitto("max_queued_messages 0")
    report, items, code = examine(broker.port, "--load=3000")
    assert code == 2 and report["product"] == "mosquitto", report
    for item in items.values():
        expected = "fails" if item["area"] == "strangers" else "ok"
        if item["id"] in ("stranger-caller", "stranger-sys"):
            expected = "warning"
        assert item["state"] == expected, item
    assert retained(broker) == b""


def test_users_without_rules_keep_strangers_out_but_not_each_other(mosquitto):
    broker = mosquitto(users={"ada": "ada"})
    report, items, code = examine(broker.port, user="ada")
    assert code == 2 and (report["works"], report["open"]) == (True, True), report
    for id, item in items.items():
        expected = "fails" if id.startswith("user-") and item["area"] == "strangers" else "ok"
        if id in ("user-caller", "user-sys"):
            expected = "warning"
        assert item["state"] == expected, item
    _, _, code = examine(broker.port, "--trusted", user="ada")
    assert code == 0
    assert retained(broker, "-u", "ada", "-P", "ada") == b""


def test_mosquitto_s_defaults_cut_a_large_registry_off(mosquitto):
    broker = mosquitto()
    _, items, code = examine(broker.port, "--load=3000")
    assert code == 1
    assert items["retained-load"]["state"] == "fails", items
    assert items["retained-load"]["advice"] == "set max_queued_messages 0 in mosquitto.conf"
    assert retained(broker) == b""


@pytest.fixture
def ruled(mosquitto, tmp_path):
    """mosquitto with users, and the rules of their roles as far as its ACL file holds them."""
    config = tmp_path / "broker-rules.toml"
    users = [
        f'[[users]]\nname = "{user}"\npassword = "{brokers.record(user)}"\nroles = ["{role}"]'
        for user, role in ROLES.items()
    ]
    config.write_text("\n".join(users) + "\n")
    exported = subprocess.run(
        [brokers.rantai_binary(), "acl", "export", "--for", "mosquitto", "--config", config],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    acl = tmp_path / "mosquitto.acl"
    acl.write_bytes(exported.stdout)
    return mosquitto(f"acl_file {acl}", users={user: user for user in ROLES})


def test_exported_rules_keep_strangers_out_but_not_users(ruled):
    report, items, code = examine(ruled.port)
    assert code == 1 and items["reachable"]["state"] == "fails", report
    assert all(item["state"] == "ok" for item in items.values() if item["area"] == "strangers"), items

    report, items, code = examine(ruled.port, user="ada")
    # A user who may only call takes requests away all the same: no ACL file of mosquitto says otherwise.
    assert code == 2 and items["user-group"]["state"] == "fails", report
    for item in ("user-registry", "user-everything", "user-answers", "user-sys"):
        assert items[item]["state"] == "ok", items[item]
    assert items["user-caller"]["state"] == "warning"
    assert all(item["state"] == "ok" for id, item in items.items() if id.startswith("stranger-")), items

    report, items, code = examine(ruled.port, "--trusted", user="root")
    assert code == 0, report
    assert all(item["state"] == "ok" for id, item in items.items()), items
    assert retained(ruled, "-u", "root", "-P", "root") == b""
