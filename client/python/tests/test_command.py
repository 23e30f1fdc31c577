"""`python -m rantai`."""

import sys

import support


def python(broker, *arguments):
    return support.run(sys.executable, "-m", "rantai", *arguments, "--broker", broker.url)


def test_serve_and_call(own_broker, process):
    node = process(support.python_node(own_broker.url, "Calc=py.command", "Echo", node="command-1"))
    assert node.until("^ready: node (.*)")[1] == "command-1"
    assert python(own_broker, "call", "py.command.add", "2", "3") == (0, "5\n", "")
    assert python(own_broker, "call", "py.command.add", "a=2", "b=3.5")[1] == "5.5\n"
    assert python(own_broker, "call", "py.echo.say", "Dune")[1] == '"Dune"\n'
    assert python(own_broker, "call", "py.echo.bytes", "3")[1] == "xxx"
    assert python(own_broker, "call", "py.command.rpc.ping")[1] == '"pong"\n'
    code, _, said = python(own_broker, "call", "py.command.div", "1", "0")
    assert code == 1 and said == "error: b is 0 (-32000)\n"
    assert node.stop() == 0
    code, _, said = python(own_broker, "call", "py.command.add", "1", "2", "--deadline", "10")
    assert code == 1 and "-3200" in said


def test_what_is_wrong_is_told(own_broker, process):
    for arguments, said in (
        (("serve", "nothing"), "write MODULE:CLASS"),
        (("serve", "no_such_module:X"), "cannot import no_such_module"),
        (("serve", "json:Nothing"), "json has no Nothing"),
        (("call", "a b.c"), "is no object name"),
    ):
        code, _, problem = python(own_broker, *arguments)
        assert code == 2 and said in problem, problem
    nobody = f"mqtt://127.0.0.1:{support.free_port()}"
    code, _, problem = support.run(sys.executable, "-m", "rantai", "call", "x.y", "--broker", nobody, patience=90)
    assert code == 1 and "cannot connect to" in problem and "Traceback" not in problem
