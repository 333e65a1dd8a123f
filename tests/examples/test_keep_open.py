"""The example whose WebSockets stay open: people talk and numbers go on while the code is replaced."""

import pytest
from websockets.sync.client import connect

from tests.examples.catalogue import Example
from tests.process.running import Server, wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

KEEP_OPEN = Example("keep_open")


def wait_for(client, text):
    while client.recv(10) != text:
        pass


def test_a_room_and_a_counter_survive_two_reloads(tmp_path):
    directory = KEEP_OPEN.copy_to(tmp_path)
    path = directory / "app.py"
    original = path.read_text()
    with (
        Server(tmp_path, "--app-dir", str(directory), "--probation", "0.1", workers=1) as server,
        connect(f"ws://127.0.0.1:{server.port}/tea") as ada,
        connect(f"ws://127.0.0.1:{server.port}/tea") as guest,
        connect(f"ws://127.0.0.1:{server.port}/count", max_queue=None) as counter,
    ):
        ada.send("/name Ada")
        for reloads, version in enumerate(("2", "3"), 1):
            path.write_text(original)
            KEEP_OPEN.release(directory, version)
            server.reload()
            assert server.get() == f"version {version}\n"
            wait_until(lambda: server.log.count("3 connections handed over") == reloads)  # noqa: B023
            # Each is in the room of the new worker once it hears itself there.
            ada.send(f"Ada has {version}")
            wait_for(ada, f"Ada: Ada has {version}")
            guest.send("I am here, too")
            for each in (ada, guest):
                wait_for(each, "guest: I am here, too")
        numbers = [int(counter.recv(10)) for _ in range(10)]
        assert numbers == list(range(1, 11))
