"""A stop, and a file over TLS, while every thread of the application's default executor is busy."""

import urllib.request

import pytest

from tests.certificates import AUTHORITY
from tests.process.running import Server, write_version

pytestmark = pytest.mark.process

BUSY = """
import pathlib, threading

HERE = pathlib.Path(__file__).parent
RELEASED = threading.Event()

async def lifespan(receive, send):
    await receive()
    loop = asyncio.get_running_loop()
    for _ in range(64):
        loop.run_in_executor(None, RELEASED.wait, 60)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    (HERE / f"shutdown-{os.getpid()}").touch()
    RELEASED.set()
    await send({"type": "lifespan.shutdown.complete"})

async def file(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": str(HERE / "big")})

PATHS["/file"] = file
"""


def test_stop_drains_and_shuts_the_lifespan_down_at_once(tmp_path):
    # The threads are released by the lifespan shutdown: before, the stop was to wait for them.
    write_version(tmp_path, 1, extra=BUSY)
    with Server(tmp_path, "--drain-timeout", "60", workers=2) as server:
        pids = set(server.worker_pids())
        # Well below a drain timeout: nothing waited for a thread.
        assert server.stop(timeout=30) == 0
        assert "killed" not in server.log
    assert {int(path.name[9:]) for path in tmp_path.glob("shutdown-*")} == pids


def test_file_over_tls_is_sent(tmp_path):
    write_version(tmp_path, 1, extra=BUSY)
    body = bytes(range(256)) * 4096
    (tmp_path / "big").write_bytes(body)
    files = AUTHORITY.issue(tmp_path, "a")
    tls = ("--ssl-certfile", str(files.certfile), "--ssl-keyfile", str(files.keyfile), "--sendfile")
    with Server(tmp_path, *tls, workers=1) as server:
        address = f"https://localhost:{server.port}/file"
        context = AUTHORITY.client_context()
        with urllib.request.urlopen(address, timeout=20, context=context) as answer:
            assert answer.read() == body
        assert server.stop() == 0
