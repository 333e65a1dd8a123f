"""Files that a module opens at import are there, and written once, in each generation that is loaded after it."""

import pytest

from tests.process.running import Server, wait_until

pytestmark = pytest.mark.process

SETTINGS = """
import os, tempfile

FILE = tempfile.NamedTemporaryFile()
"""
LOGGING = """
import os

LOG = open("out.log", "a")
LOG.write(f"imported by {os.getpid()}\\n")
"""
APP = """
import os
import settings
import views

async def app(scope, receive, send):
    if scope["type"] == "http":
        there = not hasattr(settings, "FILE") or os.path.exists(settings.FILE.name)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d %d" % (views.VERSION, there)})
"""


@pytest.mark.parametrize("settings", [SETTINGS, LOGGING], ids=["temporary", "log"])
def test_files_of_an_import_before_the_module_that_is_edited(tmp_path, settings):
    (tmp_path / "settings.py").write_text(settings)
    (tmp_path / "views.py").write_text("VERSION = 0\n")
    (tmp_path / "app.py").write_text(APP)
    with Server(tmp_path, "--reload", "--no-reload-browser", workers=1) as server:
        for version in range(1, 5):
            (tmp_path / "views.py").write_text(f"VERSION = {version}\n")
            wait_until(lambda: server.get().split()[0] == str(version))  # noqa: B023
            wait_until(lambda: len(server.status()["workers"]) == 1)
            assert server.get().split()[1] == "1"
        assert server.stop() == 0
    if (tmp_path / "out.log").exists():
        lines = (tmp_path / "out.log").read_text().splitlines()
        assert len(lines) == len(set(lines))
