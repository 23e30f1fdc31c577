"""Shared subscriptions."""

import pytest

from clients import pub
from differences import expected


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_goes_to_one_member(broker, name, connect, qos):
    members = [connect(broker) for _ in range(3)]
    writer = connect(broker)
    for member in members:
        assert member.subscribe(f"$share/{name}/{name}/+", f"{name}end", qos=qos) == [qos, qos]
    for number in range(60):
        writer.publish(f"{name}/x", str(number), qos=qos)
    writer.publish(f"{name}end", b"end", qos=qos)
    got = [[m.payload for m in member.receive_until(b"end")] for member in members]
    assert sorted(sum(got, [])) == sorted(str(number).encode() for number in range(60))
    assert all(got), f"a member got nothing: {[len(part) for part in got]}"


@pytest.mark.mosquitto_tools
def test_each_group_gets_each_message(broker, name, connect):
    first, second, plain = (connect(broker) for _ in range(3))
    first.subscribe(f"$share/one/{name}", qos=1)
    second.subscribe(f"$share/two/{name}", qos=1)
    plain.subscribe(name, qos=1)
    pub(broker, "-t", name, "-q", 1, "-m", "x")
    assert [reader.receive().payload for reader in (first, second, plain)] == [b"x"] * 3


@pytest.mark.mosquitto_tools
def test_a_group_name_on_two_filters_is_two_groups(broker, name, connect):
    reader = connect(broker)
    reader.subscribe(f"$share/g/{name}/a", f"$share/g/{name}/b", qos=1)
    for topic in "abab":
        pub(broker, "-t", f"{name}/{topic}", "-q", 1, "-m", topic)
    assert reader.receive_payloads(4) == [b"a", b"b", b"a", b"b"]


@pytest.mark.mosquitto_tools
def test_mosquitto_sub_as_members(broker, name, subscriber):
    members = [subscriber(broker, "-V", "5", "-t", f"$share/g/{name}", "-q", 1, "-C", 5) for _ in range(2)]
    pub(broker, "-t", name, "-q", 1, "-l", stdin=b"".join(b"%d\n" % number for number in range(10)))
    got = [member.lines() for member in members]
    assert sorted(sum(got, [])) == [str(number) for number in range(10)]


@pytest.mark.mosquitto_tools
def test_a_shared_subscription_gets_no_retained_messages(broker, name, connect):
    pub(broker, "-t", name, "-q", 1, "-r", "-m", "retained")
    reader = connect(broker)
    reader.subscribe(f"$share/g/{name}", qos=1)
    pub(broker, "-t", name, "-q", 1, "-m", "end")
    assert len(reader.receive_until(b"end")) == expected(broker, "retained-to-shared")


def test_no_local_on_a_shared_subscription_is_a_protocol_error(broker, name, connect):
    client, filter = connect(broker), f"$share/g/{name}"
    if expected(broker, "no-local-on-shared") == "granted":
        assert client.subscribe(filter, qos=1, no_local=True) == [1]
        return
    client.subscribe(filter, qos=1, no_local=True, wait=False)
    assert client.disconnected().reason == 0x82


def test_a_member_that_leaves_leaves_its_share(broker, name, connect):
    stays, leaves = connect(broker), connect(broker)
    for member in (stays, leaves):
        member.subscribe(f"$share/g/{name}", qos=1)
    assert leaves.unsubscribe(f"$share/g/{name}") == [0]
    writer = connect(broker)
    for number in range(10):
        assert writer.publish(name, str(number), qos=1).reason == 0
    assert stays.receive_payloads(10) == [str(number).encode() for number in range(10)]


def test_unacknowledged_messages_of_a_lost_member_go_to_another(broker, name, connect):
    lost = connect(broker, manual_ack=True)
    lost.subscribe(f"$share/g/{name}", qos=1)
    writer = connect(broker)
    for number in range(5):
        writer.publish(name, str(number), qos=1)
    lost.receive_payloads(5)
    other = connect(broker)
    other.subscribe(f"$share/g/{name}", qos=1)
    lost.cut()
    # The broker may notice the cut after this.
    broker_noticed = f"{name}/noticed"
    connect(broker).subscribe(broker_noticed)
    other.subscribe(f"{name}/end", qos=1)
    if expected(broker, "lost-member-messages") == "to another":
        assert sorted(other.receive_payloads(5)) == [str(number).encode() for number in range(5)]
    else:
        writer.publish(f"{name}/end", b"end", qos=1)
        assert other.receive_until(b"end") == []
