"""Files: a folder of this package with the command line of the Rust implementation, and the other way round."""

import os

import pytest
import support

import rantai
from rantai import blake3


@pytest.fixture
def shared(node, name, tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    node.serve(rantai.FileShare(str(folder), quota_bytes=8 << 20), name)
    return folder


def test_rantai_put_files_and_get(command, shared, name, tmp_path):
    source = tmp_path / "song.bin"
    source.write_bytes(os.urandom(700_000))
    source.chmod(0o755)
    os.utime(source, ns=(1_700_000_000_123_000_000, 1_700_000_000_123_000_000))
    code, _, problem = command("put", name, str(source), "--to", "2026/song.bin")
    assert code == 0, problem
    arrived = shared / "2026" / "song.bin"
    assert arrived.read_bytes() == source.read_bytes()
    assert arrived.stat().st_mtime_ns == source.stat().st_mtime_ns and os.access(arrived, os.X_OK)
    code, listed, _ = command("files", name)
    assert code == 0 and "2026/song.bin" in listed
    target = tmp_path / "downloads"
    target.mkdir()
    code, _, problem = command("get", name, "2026/song.bin", "-o", str(target))
    assert code == 0, problem
    [fetched] = [path for path in target.rglob("*") if path.is_file()]
    assert fetched.read_bytes() == source.read_bytes()
    assert not [path for path in shared.rglob(".*")], "no part is left"


def test_what_leads_outside_is_denied(command, shared, name, tmp_path, client):
    (tmp_path / "secret").write_text("secret")
    (shared / "link").symlink_to(tmp_path / "secret")
    (shared / "linked").symlink_to(tmp_path)
    for path in ("../secret", "/etc/passwd", "a/../../secret", ".hidden", "link", "linked/secret", "a\\b"):
        with pytest.raises((rantai.Denied, rantai.Failed)):
            client[name].open(path)
        with pytest.raises((rantai.Denied, rantai.Failed)):
            client[name].create(f"{path}/x", 1, "0" * 64)
    assert client[name].list()["entries"] == [] and client[name].list()["left_out"] == [{"count": 2, "reason": "link"}]
    with pytest.raises(rantai.Failed) as missing:
        client[name].open("nothing")
    assert missing.value.kind == "not_found"
    with pytest.raises(rantai.TooLarge):
        client[name].create("large", 9 << 20, "0" * 64)


def test_an_upload_is_gone_on_with_and_its_digest_is_checked(client, shared, name, tmp_path):
    data = os.urandom(200_000)
    digest = blake3.new()
    digest.update(data)
    etag = digest.hexdigest()
    created = client[name].create("a.bin", len(data), etag)
    assert created["offset"] == 0
    head = created["id"].to_bytes(8, "big")
    assert client[name].write(head + (0).to_bytes(8, "big") + data[:65536]) == 65536
    # Out of order: kept until what is missing has come.
    assert client[name].write(head + (131072).to_bytes(8, "big") + data[131072:]) == 65536
    again = client[name].create("a.bin", len(data), etag)
    assert (again["id"], again["offset"]) == (created["id"], 65536)
    assert client[name].write(head + (65536).to_bytes(8, "big") + data[65536:131072]) == len(data)
    client[name].commit(created["id"])
    assert (shared / "a.bin").read_bytes() == data
    wrong = client[name].create("b.bin", 3, etag)
    client[name].write(wrong["id"].to_bytes(8, "big") + bytes(8) + b"abc")
    with pytest.raises(rantai.Mismatch):
        client[name].commit(wrong["id"])
    assert not (shared / "b.bin").exists() and not list(shared.glob(".*"))
    with pytest.raises(rantai.Mismatch):
        client[name].read("a.bin", "0" * 64, 0, 10)


def test_python_fetches_from_and_sends_to_the_rust_node(client, broker, tmp_path, process):
    folder = tmp_path / "books"
    folder.mkdir()
    name = f"books-{support.free_port()}"
    (tmp_path / "files.toml").write_text(f'[[files]]\nname = "{name}"\nfolder = "{folder}"\nquota_bytes = 10_000_000\n')
    serving = process(
        support.Process(support.rantai(), "serve", "--config", str(tmp_path / "files.toml"), "--broker", broker.url)
    )
    serving.until(f"serving {name}")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(300_000))
    files = rantai.Files(client, name)
    files.put(str(source), "a/b.bin")
    assert (folder / "a" / "b.bin").read_bytes() == source.read_bytes()
    assert [(file.path, file.size) for file in files.list()] == [("a/b.bin", 300_000)]
    target = tmp_path / "target"
    # What an interrupted transfer has left.
    opened = client[name].open("a/b.bin")
    (tmp_path / f".target.{opened['etag'][:16]}.part").write_bytes(source.read_bytes()[:65_536])
    files.get("a/b.bin", str(target))
    assert (
        target.read_bytes() == source.read_bytes()
        and target.stat().st_mtime_ns // 10**6 == source.stat().st_mtime_ns // 10**6
    )
    assert not list(tmp_path.glob(".target*"))


def test_the_end_of_a_file(client, shared, name):
    (shared / "log").write_text("satu\ndua\ntiga\nempat")
    assert client[name].tail("log", 2) == ["tiga", "empat"]
    with client[name].tail.stream("log", 1, True) as tail:
        assert next(tail) == "tiga"
        with (shared / "log").open("a") as file:
            file.write("!\nlima\n")
        assert [next(tail), next(tail)] == ["empat!", "lima"]


def test_blake3_in_python_is_that_of_the_reference():
    # Official vectors: the input is 0, 1, …, 250, 0, 1, … of a length.
    for length, expected in (
        (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
        (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
        (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
        (5121, "628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff"),
    ):
        data = bytes(n % 251 for n in range(length))
        for pieces in (1, 7, 100_000):
            digest = blake3.new(pure=True)
            for start in range(0, length, pieces):
                digest.update(data[start : start + pieces])
            assert digest.hexdigest() == expected, (length, pieces)
