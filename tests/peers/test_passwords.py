"""Password files: those of mosquitto_passwd at our broker, those of `rantai passwd` at mosquitto."""

import subprocess

from brokers import rantai_binary, tool

RANTAI = [str(rantai_binary()), "passwd"]


def run(command, code=0, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=30, **more)
    assert done.returncode == code, done
    return done


def is_right(file, user, password, code=0):
    run([*RANTAI, "--verify", file, user, "--stdin"], code=code, input=password + "\n")


def test_a_file_of_mosquitto_passwd_is_read_and_changed(tmp_path):
    file = tmp_path / "passwords"
    run([tool("mosquitto_passwd"), "-b", "-c", file, "ada", "s3cret"])
    run([tool("mosquitto_passwd"), "-b", file, "grâce", "pässwörd €"])
    is_right(file, "ada", "s3cret")
    is_right(file, "grâce", "pässwörd €")
    is_right(file, "ada", "s3cre", code=1)
    before = file.read_text().splitlines()
    run([*RANTAI, file, "eve", "--stdin"], input="new\n")
    assert file.read_text().splitlines()[:2] == before
    run([*RANTAI, "-D", file, "ada"])
    assert [line.split(":")[0] for line in file.read_text().splitlines()] == ["grâce", "eve"]


def test_a_file_of_ours_is_changed_by_mosquitto_passwd(tmp_path):
    file = tmp_path / "passwords"
    for user in ("ada", "eve"):
        run([*RANTAI, file, user, "--stdin", "--mosquitto"], input="s3cret\n")
    assert file.stat().st_mode & 0o777 == 0o600
    run([tool("mosquitto_passwd"), "-b", file, "ada", "other"])
    is_right(file, "ada", "other")
    is_right(file, "eve", "s3cret")
    run([tool("mosquitto_passwd"), "-D", file, "eve"])
    is_right(file, "eve", "s3cret", code=1)


def test_each_broker_lets_in_the_users_of_the_other_tool(start_broker, client):
    broker = start_broker(users={"ada": "s3cret"}, foreign_passwords=True)
    assert client(broker, user=("ada", "s3cret")).connect().reason == 0
    stranger = client(broker, user=("ada", "wrong"))
    stranger.connect()
    assert stranger.tap.wait(True, 2).body[1] != 0
