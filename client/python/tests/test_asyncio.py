"""The asyncio client."""

import asyncio

import objects
import pytest
import support

import rantai


@pytest.fixture
def names(node, name):
    node.serve(objects.Calc(), name)
    node.serve(objects.Slow(), f"{name}.slow")
    node.serve(objects.Numbers(), f"{name}.numbers")
    return name


def run(broker, program):
    async def main():
        async with rantai.AsyncClient(broker.url) as client:
            await program(client)

    asyncio.run(asyncio.wait_for(main(), support.PATIENCE * 2))


def test_a_thousand_calls_at_a_time(broker, names):
    async def program(client):
        results = await asyncio.gather(*(client[names].add(number, 1) for number in range(1000)))
        assert results == list(range(1, 1001))
        with pytest.raises(rantai.Failed):
            await client[names].div(1, 0)
        assert names in await client.objects()
        await client.wait_for(names)
        with pytest.raises(rantai.TimedOut):
            await client.wait_for("py.nobody", 0.3)
        assert (await client[names].describe())["info"]["title"] == names
        assert [answer.result for answer in await client[names].add.all(1, 2, within=1.0)] == [3]
        await client[names].add.oneway(1, 2)

    run(broker, program)


def test_a_task_that_is_cancelled_gives_its_call_up(broker, names):
    async def program(client):
        slow = client[f"{names}.slow"]
        task = asyncio.ensure_future(slow.wait(60))
        while (await slow.counts())["started"] == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while (await slow.counts())["cancelled"] == 0:
            await asyncio.sleep(0.01)
        assert (await slow.counts()) == {"started": 1, "cancelled": 1, "ended": 0}

    run(broker, program)


def test_streams_and_events(broker, names):
    async def program(client):
        numbers = client[f"{names}.numbers"]
        assert [item async for item in numbers.count.stream(5_000)] == list(range(5_000))
        async with numbers.async_count.stream(10_000_000) as items:
            assert await items.__anext__() == 0
        while (await numbers.state())["closed"] < 2:
            await asyncio.sleep(0.01)
        async with await client[names].events("noted") as events:
            await client[names].note("hello")
            assert (await events.__anext__()).value == "hello"

    run(broker, program)
