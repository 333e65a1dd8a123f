"""Logging of a whole process tree: files, formats, and a configuration that changes under it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

CONFIG = """
version = 1
[formatters.own]
format = "WORD %(levelname)s %(role)s %(slot)s %(generation)s %(message)s"
[handlers.console]
class = "logging.StreamHandler"
formatter = "own"
[loggers.asgireload]
handlers = ["console"]
"""


def test_a_log_config_is_applied_everywhere_and_read_again_at_each_reload(tmp_path):
    write_version(tmp_path, 1)
    config = tmp_path / "log.toml"
    config.write_text(CONFIG.replace("WORD", "first"))
    with Server(tmp_path, "--log-config", "log.toml", workers=2) as server:
        assert "first INFO supervisor None None Started parent process" in server.log
        assert "first INFO worker 1 1 Started server process" in server.log

        config.write_text(CONFIG.replace("WORD", "third").replace("StreamHandler", "Nothing"))
        said = server.reload(ok=False)
        assert "--log-config log.toml: Unable to configure handler 'console'" in said
        assert server.version() == 1

        config.write_text("version = 1\nx = = 2")
        said = server.reload(ok=False)
        assert "--log-config log.toml: not valid TOML: Invalid value (at line 2" in said
        assert "first ERROR supervisor None None Reload 2 failed" in server.log
        assert ": logging: --log-config log.toml" in server.log

        # A worker that comes back logs as its generation does, whatever the file says by now.
        started = "first INFO worker 0 1 Started server process"
        before = server.log.count(started)
        (victim,) = [worker["pid"] for worker in server.workers() if worker["slot"] == 0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: server.log.count(started) > before)

        config.write_text(CONFIG.replace("WORD", "fourth"))
        server.reload()
        assert "fourth INFO worker 1" in server.log
        assert "fourth INFO supervisor None None Reload 3 committed" in server.log


def test_a_log_config_serves_workers_that_import_by_themselves(tmp_path):
    write_version(tmp_path, 1)
    (tmp_path / "log.toml").write_text(CONFIG)
    with Server(tmp_path, "--log-config", "log.toml", "--no-preload", workers=1) as server:
        assert "WORD INFO worker 0 1 Waiting for application startup" in server.log


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--log-config", "log.toml"], "--log-config log.toml: No such file"),
        (["--error-log-file", "no/x.log"], "--error-log-file no/x.log: it cannot be opened"),
    ],
)
def test_logging_that_cannot_be_set_up_ends_the_first_start_with_status_3(
    tmp_path, options, reason
):
    write_version(tmp_path, 1)
    done = subprocess.run(
        [sys.executable, "-m", "asgireload", "app:app", "--port", "0", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 3, done.stderr
    assert reason in done.stderr


def test_every_line_of_the_tree_is_a_json_object_also_when_code_is_broken(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, "--log-format", "json", workers=2) as server:
        write_version(tmp_path, 2, extra="\nimport no_such_module_anywhere\n")
        server.reload(ok=False)
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert {line["role"] for line in lines} == {"supervisor", "worker"}
    assert {line["slot"] for line in lines if line["role"] == "worker"} == {0, 1}
    (verdict,) = [line["message"] for line in lines if "Reload 1 failed" in line["message"]]
    assert "ModuleNotFoundError" in verdict


class LoggingToFile(Server):
    """A server whose lines are in a file."""

    @property
    def log(self):
        file = self.directory / "error.log"
        return file.read_text() if file.exists() else ""


def test_the_servers_lines_go_to_a_file_that_may_be_moved_away(tmp_path):
    write_version(tmp_path, 1)
    with LoggingToFile(tmp_path, "--error-log-file", "error.log", workers=2) as server:
        old = tmp_path / "error.log.1"
        (tmp_path / "error.log").rename(old)
        server.reload()
        assert "committed" in server.log
        assert "[w1] Started server process" in server.log
        assert "asgireload running on" in old.read_text()
        assert "committed" not in old.read_text()
    assert "Started" not in server.log_path.read_text()
