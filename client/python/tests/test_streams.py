"""Results that come item by item, both ways."""

import gc
import resource
import threading
import time

import objects
import pytest
import support

import rantai


@pytest.fixture
def numbers(node, name):
    node.serve(objects.Numbers(), name)
    return name


def _state(client, name, **expected):
    support.eventually(lambda: client[name].state().items() >= expected.items())


@pytest.mark.parametrize("method", ["count", "async_count"])
def test_items_come_in_order_and_all_of_them(client, numbers, method):
    assert list(client[numbers].method(method).stream(50_000)) == list(range(50_000))
    assert list(client[numbers].method(method).stream(0)) == []
    assert client[numbers].method(method)(5) == [0, 1, 2, 3, 4], "whoever asks for no stream gets one list"
    _state(client, numbers, made=50_005, closed=3)


def test_the_first_item_comes_before_the_last_is_made(client, numbers):
    with client[numbers].tick.stream(0.05) as items:
        assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", ["count", "async_count"])
def test_a_slow_reader_slows_the_object(client, numbers, method):
    with client[numbers].method(method).stream(10_000_000) as items:
        assert next(items) == 0
        made = -1
        while made != (made := client[numbers].state()["made"]):
            time.sleep(0.3)
        # 256 KiB on their way, and what the caller has taken.
        assert made < 200_000, made
        assert next(items) == 1
    _state(client, numbers, closed=1)


def test_memory_is_bounded_while_a_reader_is_slow(client, numbers):
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with client[numbers].lines.stream(100_000, 10_000) as items:
        for _ in range(5):
            next(items)
            time.sleep(0.2)
        for _ in range(3_000):
            next(items)
    # 1 GB in all, of which 30 MB were read.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_an_error_is_the_last_of_all(client, numbers):
    items = client[numbers].fails.stream(3)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(rantai.Failed) as failed:
        next(items)
    assert failed.value.kind == "worn_out"
    assert list(items) == []
    with pytest.raises(rantai.Failed):
        client[numbers].fails(3)


def test_giving_up_closes_the_generator(client, numbers):
    for method in ("count", "async_count"):
        before = client[numbers].state()["closed"]
        items = client[numbers].method(method).stream(10_000_000)
        assert next(items) == 0
        items.close()
        assert list(items) == []
        _state(client, numbers, closed=before + 1)


def test_many_streams_do_not_keep_the_threads_of_calls(client, numbers):
    streams = [client[numbers].tick.stream(0.2) for _ in range(20)]
    assert [next(items) for items in streams] == [0] * 20
    assert client[numbers].state()["made"] == 0, "a call finds a thread"
    for items in streams:
        items.close()


def test_rantai_call_reads_a_stream(command, numbers):
    assert command("call", f"{numbers}.count", "3")[:2] == (0, "0\n1\n2\n")
    code, said, problem = command("call", f"{numbers}.count", "200000")
    assert code == 0 and said.endswith("\n199999\n"), problem
    code, said, problem = command("call", f"{numbers}.fails", "2")
    assert code == 1 and said == "0\n1\n" and "no more numbers" in problem


def test_rantai_call_that_is_interrupted_closes_the_generator(client, numbers, broker, process):
    import signal

    call = process(support.Process(support.rantai(), "call", f"{numbers}.tick", "0.05", "--broker", broker.url))
    call.until("^3$")
    call.signal(signal.SIGINT)
    assert call.wait() == 130
    support.eventually(lambda: client[numbers].method("rpc.stats")()["methods"]["tick"]["in_flight"] == 0)


def test_a_stream_of_the_rust_node(client, broker, tmp_path, process):
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "today").write_text("".join(f"line {n}\n" for n in range(5_000)))
    name = f"logs-{support.free_port()}"
    (tmp_path / "files.toml").write_text(f'[[files]]\nname = "{name}"\nfolder = "{folder}"\n')
    serving = process(
        support.Process(support.rantai(), "serve", "--config", str(tmp_path / "files.toml"), "--broker", broker.url)
    )
    serving.until(f"serving {name}")
    items = list(client[name].tail.stream(path="today", lines=4_000))
    assert len(items) == 4_000 and items[-1] == "line 4999"
    with client[name].tail.stream(path="today", lines=1, follow=True) as following:
        assert next(following) == "line 4999"
        with (folder / "today").open("a") as file:
            file.write("a new one\n")
        assert next(following) == "a new one"


def test_a_stream_whose_node_is_killed_ends(broker, client, name, process):
    node = process(support.python_node(broker.url, f"Numbers={name}"))
    node.until("^ready")
    items = client[name].tick.stream(0.05)
    assert next(items) == 0
    node.kill()
    began = time.monotonic()
    with pytest.raises(rantai.NodeLost) as lost:
        for _ in items:
            pass
    assert lost.value.maybe_executed and time.monotonic() - began < 20


def test_a_stream_goes_on_after_the_broker_was_started_again(tmp_path):
    broker = support.Broker("rantai", tmp_path)
    with rantai.Node(broker.url) as node, rantai.Client(broker.url) as client:
        node.serve(objects.Numbers(), "py.numbers")
        items = client["py.numbers"].count.stream(300_000)
        assert next(items) == 0
        restarting = threading.Thread(target=lambda: (broker.kill(), broker.start()))
        restarting.start()
        assert list(items) == list(range(1, 300_000))
        restarting.join()
    broker.stop()
