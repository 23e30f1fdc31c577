"""Measures calls: sequential ones, 64 under way, and 1,000 at once.

`RANTAI=target/release/rantai python bench/calls.py`. Broker, node and caller are processes of their own on this
machine; the objects are `calculator` of the Rust node, and one of this package with a plain and an asyncio method.
"""

import collections
import pathlib
import sys
import time

import rantai

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
import support

SEQUENTIAL, IN_FLIGHT, CALLS = 1_500, 64, 4_000


def sequential(method):
    """Returns calls a second, p50 and p99 in milliseconds."""
    times = []
    began = time.perf_counter()
    for number in range(SEQUENTIAL):
        start = time.perf_counter()
        method(number, 3)
        times.append(time.perf_counter() - start)
    rate = SEQUENTIAL / (time.perf_counter() - began)
    times.sort()
    return rate, times[SEQUENTIAL // 2] * 1000, times[SEQUENTIAL * 99 // 100] * 1000


def under_way(method, at_once, calls):
    """Returns calls a second, with so many under way."""
    began = time.perf_counter()
    waiting = collections.deque(method.start(number, 1) for number in range(at_once))
    for number in range(at_once, calls):
        waiting.popleft().result()
        waiting.append(method.start(number, 1))
    for call in waiting:
        call.result()
    return calls / (time.perf_counter() - began)


def main():
    up = support.Process(support.rantai(), "up", "--port", "0")
    url = "mqtt://" + up.until(r"^listening on (127\.0\.0\.1:\d+)")[1]
    up.until("^ready")
    node = support.python_node(url, "Calc")
    node.until("^ready")
    try:
        with rantai.Client(url) as client:
            calc = client["py.calc"]
            for name, method in (("Rust", client.calculator.add), ("plain", calc.add), ("asyncio", calc.later)):
                rate, p50, p99 = sequential(method)
                many = under_way(method, IN_FLIGHT, CALLS)
                print(
                    f"{name:8} {rate:6.0f}/s  p50 {p50:.2f} ms  p99 {p99:.2f} ms  {IN_FLIGHT} under way {many:6.0f}/s"
                )
            print(f"1,000 at once in {1000 / under_way(calc.add, 1000, 1000):.2f} s")
    finally:
        node.stop()
        up.stop()


main()
