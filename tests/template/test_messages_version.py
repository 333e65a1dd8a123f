"""A template of another version of asgireload than the supervisor's, as after an upgrade of the package."""

import os
import subprocess
import sys

import msgspec
import pytest

from asgireload.config import Config
from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import MESSAGES_VERSION, AppFailed, LoadApp
from asgireload.ipc.scoreboard import Scoreboard


@pytest.mark.parametrize("version", [MESSAGES_VERSION - 1, MESSAGES_VERSION + 1])
def test_a_load_that_would_be_misunderstood_is_refused_with_what_to_do(tmp_path, version):
    (tmp_path / "app.py").write_text("raise SystemExit('it was imported')")
    ours, theirs = Channel.pair()
    request = LoadApp(
        2, Config(app="app:app"), True, str(tmp_path), "app:app", messages_version=version
    )
    scoreboard = Scoreboard.create()
    fault_file = os.open(tmp_path / "fault", os.O_RDWR | os.O_CREAT)
    process = subprocess.Popen(
        [sys.executable, "-m", "asgireload.template.main", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
    )
    try:
        theirs.close()
        ours.send(request, [scoreboard.descriptor, fault_file])
        assert ours.has_message(60)
        message, _ = ours.receive()
    finally:
        ours.close()
        process.wait(60)
        os.close(fault_file)
        scoreboard.close()
    assert isinstance(message, AppFailed)
    assert message.failure.stage == "version"
    assert f"sends version {version}; restart the server" in message.failure.summary


def test_an_older_reader_ignores_a_field_that_was_added():
    """Bytes as a later version would send them, with fields that this one does not know."""
    ours, theirs = Channel.pair()
    failure = {"stage": "import", "summary": "no module", "later": [1]}
    with theirs:
        theirs.send(
            msgspec.msgpack.encode({"type": "AppFailed", "failure": failure, "hint": "new"})
        )
    message, _ = ours.receive()
    ours.close()
    assert isinstance(message, AppFailed)
    assert message.failure.summary == "no module"
