"""The example whose WebSockets stay open: people talk and numbers go on while the code is replaced."""

import pytest
from websockets.sync.client import connect

from tests.examples.catalogue import Example
from tests.process.running import Server

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

KEEP_OPEN = Example("keep_open")


def test_a_room_and_a_counter_survive_two_reloads(tmp_path):
    directory = KEEP_OPEN.copy_to(tmp_path)
    with (
        Server(tmp_path, "--app-dir", str(directory), "--probation", "0.1", workers=1) as server,
        connect(f"ws://127.0.0.1:{server.port}/tea") as ada,
        connect(f"ws://127.0.0.1:{server.port}/tea") as guest,
        connect(f"ws://127.0.0.1:{server.port}/count") as counter,
    ):
        ada.send("/name Ada")
        for version in ("2", "3"):
            KEEP_OPEN.release(directory, version)
            server.reload()
            assert server.get() == f"version {version}\n"
            ada.send(f"hello from {version}")
            for each in (ada, guest):
                assert each.recv(10) == f"Ada: hello from {version}"
        numbers = [int(counter.recv(10)) for _ in range(10)]
        assert numbers == list(range(1, 11))
