"""Which session a connection gets."""

import subprocess
import sys

import pytest

from asgireload.websocket import sessions
from asgireload.websocket._wsproto import WsprotoSession
from asgireload.websocket.session import SessionLimits, WebSocketSession
from asgireload.websocket.sessions import choose_session, new_session
from asgireload.websocket.settings import SessionName


def test_the_option_chooses_and_auto_means_ours() -> None:
    assert [choose_session(ws) for ws in ("auto", "builtin", "none")] == ["builtin"] * 3
    assert choose_session("wsproto") == "wsproto"


@pytest.mark.parametrize(
    ("name", "kind"), [("builtin", WebSocketSession), ("wsproto", WsprotoSession)]
)
def test_a_session_is_of_the_kind_that_was_chosen(name: SessionName, kind: type) -> None:
    session = new_session(name, SessionLimits(), None, None, is_movable=True)
    assert type(session) is kind
    assert session.is_movable


def test_what_is_missing_is_told_by_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    if sessions.__file__.endswith(".so"):
        pytest.skip("compiled: modules that are compiled together are imported another way")
    monkeypatch.setitem(sys.modules, "asgireload.websocket._wsproto", None)
    with pytest.raises(ImportError):
        choose_session("wsproto")
    assert choose_session("auto") == "builtin"


def test_libraries_that_were_not_chosen_are_not_loaded() -> None:
    code = (
        "import sys, asgireload.worker.main, asgireload.supervisor.loop, asgireload.development.watch.watcher\n"
        "from asgireload.config import Config\n"
        "asgireload.worker.settings.connection_settings(Config(app='a:b'), 1000)\n"
        "print([name for name in ('wsproto', 'watchfiles', 'h11', 'httptools') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
