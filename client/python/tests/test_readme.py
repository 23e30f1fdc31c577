"""The examples of README.md, as they stand there, on a broker of their own."""

import os
import re
import subprocess
import sys

import pytest
import support

README = support.HERE.parent / "README.md"
BLOCK = re.compile(
    r'^<!-- (?:(run)(?:: (background, until|prints) "([^"]*)")?|file: (\S+)) -->\n```(\w+)\n(.*?)^```$', re.M | re.S
)
#: What a line of an example prints, in the comment behind it.
PRINTS = re.compile(r"^.*\bprint\(.*\)\s+# (.+)$", re.M)


@pytest.fixture
def environment(own_broker, tmp_path):
    # `python` and `rantai` are those under test.
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "rantai").symlink_to(support.rantai())
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tools / "python").chmod(0o755)
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "RANTAI_BROKER": own_broker.url}


def test_the_examples_do_what_they_say(own_broker, environment, tmp_path, process):
    page = README.read_text().replace("mqtt://localhost", own_broker.url)
    blocks = BLOCK.findall(page)
    assert len(blocks) >= 12
    started = []
    for _, how, text, file, language, script in blocks:
        if file:
            (tmp_path / file).write_text(script)
            continue
        command = ["bash", "-euo", "pipefail", "-c", script] if language == "sh" else [sys.executable, "-c", script]
        if how.startswith("background"):
            command[-1] = f"exec {script}" if script.count("\n") == 1 else script
            started.append(process(support.Process(*command, cwd=tmp_path, env=environment)))
            started[-1].until(text)
            continue
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=support.PATIENCE
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        expected = [text] if how == "prints" else PRINTS.findall(script)
        assert done.stdout.strip().splitlines() == expected, (script, done.stdout)
        assert expected
    for serving in started:
        assert serving.stop() == 0, serving.lines
