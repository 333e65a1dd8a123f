"""A server without --reload has nothing of development in any of its processes."""

import sys

import pytest

from tests.process.running import Server, write_version

pytestmark = pytest.mark.process

PROGRAM = """
import atexit, os, sys

supervisor = os.getpid()

def tell():
    if os.getpid() == supervisor:
        print("at the end:", [name for name in sys.modules if "development" in name], flush=True)

atexit.register(tell)
from asgireload.cli.main import main
sys.exit(main())
"""
ASKED = """
import sys

TEMPLATE = [name for name in sys.modules if name.startswith("asgireload.development")]

async def modules(scope, receive, send):
    worker = [name for name in sys.modules if name.startswith("asgireload.development")]
    await answer(send, f"{bool(TEMPLATE)} {bool(worker)}".encode())
PATHS["/modules"] = modules
"""


@pytest.mark.parametrize("options", [(), ("--no-preload",)], ids=["preload", "no preload"])
def test_production_imports_nothing_of_development(tmp_path, options):
    write_version(tmp_path, 1, extra=ASKED)
    server = Server(tmp_path, *options, workers=1)
    server.command[:3] = [sys.executable, "-c", PROGRAM]
    with server:
        assert server.get("/modules") == "False False"
        server.reload()
        assert server.get("/modules") == "False False"
        assert server.stop() == 0
        assert "at the end: []" in server.log


def test_with_reload_it_is_there(tmp_path):
    write_version(tmp_path, 1, extra=ASKED)
    with Server(tmp_path, "--reload", workers=1) as server:
        assert server.get("/modules") == "True True"
        assert server.stop() == 0
