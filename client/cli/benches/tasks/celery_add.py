"""Sends tasks of Celery to a Redis of its own that syncs every write, and prints how many a second."""

import socket
import subprocess
import tempfile
import time

from celery import Celery

SECONDS = 2


def main():
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        settings += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        redis = subprocess.Popen(["redis-server", *settings], stdout=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            app = Celery("pages", broker=f"redis://127.0.0.1:{port}/0")

            @app.task(name="add")
            def add(x, y):
                return x + y

            add.delay(4, 120)
            began, sent = time.monotonic(), 0
            while time.monotonic() - began < SECONDS:
                add.delay(4, 120)
                sent += 1
            print(sent / (time.monotonic() - began))
        finally:
            redis.terminate()
            redis.wait()


if __name__ == "__main__":
    main()
