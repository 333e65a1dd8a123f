"""A worker that runs out of descriptors waits, serves what it has, and accepts again afterwards."""

import asyncio
import errno
import os

import pytest

from asgireload.worker import acceptor
from tests.worker.test_acceptor import GET, Served, who


class Exhausted:
    """The listening socket of a process that may open no more files."""

    def __init__(self, sock, number):
        self._socket = sock
        self.number = number
        self.refused = 0

    def fileno(self):
        return self._socket.fileno()

    def _accept(self):
        if self.number is None:
            return self._socket._accept()
        self.refused += 1
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_open_connections_are_served_and_new_ones_wait(
    run, monkeypatch, caplog, number
):
    monkeypatch.setattr(acceptor, "EXHAUSTED_PAUSE", 0.1)

    async def main():
        caplog.clear()
        served = Served(who)
        try:
            first = await served.connect()
            first.send(GET)
            assert (await first.read_response())[0] == 200
            served.acceptor.stop()
            (entrance,) = served.acceptor._entrances
            entrance.socket = exhausted = Exhausted(served.listener, number)
            served.acceptor.start()
            second = await served.connect()
            second.send(GET)
            async with asyncio.timeout(5):
                while exhausted.refused < 2:  # noqa: ASYNC110 - has no event
                    await asyncio.sleep(0.001)
            # It waits between its tries: a loop that spun would have made thousands.
            assert exhausted.refused < 10
            first.send(GET)
            assert (await first.read_response())[0] == 200
            exhausted.number = None
            assert (await second.read_response())[0] == 200
        finally:
            await served.close()
        assert "raise the limit of open files" in caplog.text

    run(main())
