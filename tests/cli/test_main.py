import os
import re
import signal
import socket
import subprocess
import sys

import pytest

import asgireload
from asgireload.cli import serve as serve_module
from asgireload.cli.command import is_compiled
from asgireload.cli.commands import COMMAND_HELP
from asgireload.cli.flags import COMMON
from asgireload.cli.main import main
from asgireload.config import OPTIONS
from asgireload.errors import ConfigError
from asgireload.supervisor.early_template import EarlyTemplate


@pytest.fixture(autouse=True)
def clean_place(tmp_path, monkeypatch):
    """No configuration but what a test says."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("ASGIRELOAD_", "UVICORN_")) or name in (
            "PORT",
            "WEB_CONCURRENCY",
            "FORWARDED_ALLOW_IPS",
        ):
            monkeypatch.delenv(name)


@pytest.fixture
def served(monkeypatch):
    """Collect the configurations that would be served."""
    found = []

    def serve(config, early_template):
        found.append(config)
        return 4

    monkeypatch.setattr(serve_module, "serve", serve)
    monkeypatch.setattr(serve_module, "announce", lambda loaded: None)
    return found


def test_serving_gets_the_configuration_and_gives_the_exit_status(served):
    words = (
        "main:app -w 3 -b 127.0.0.1:1 -b unix:/x --no-access-log --header A:b"
        " --limit-max-requests 9 --graceful-timeout 7 -p x.pid --ws-per-message-deflate false"
        " --no-preload --workers-max-rss 64"
    )
    status = main(words.split())
    (config,) = served
    assert status == 4
    assert (config.app, config.workers, config.bind) == ("main:app", 3, ("127.0.0.1:1", "unix:/x"))
    assert (config.access_log, config.header, config.max_requests) == (False, (("A", "b"),), 9)
    assert (config.drain_timeout, config.pid_file, config.preload) == (7.0, "x.pid", False)
    assert (config.ws_per_message_deflate, config.max_rss) == (False, 64 * 2**20)


def test_options_may_come_before_the_application(served):
    main(["--workers", "2", "main:app"])
    assert served[0].app == "main:app"


def test_the_application_may_come_from_the_file(served, tmp_path):
    (tmp_path / "own.toml").write_text("app = 'main:app'\nworkers = 2")
    main(["-c", "own.toml"])
    assert (served[0].app, served[0].workers) == ("main:app", 2)


def test_an_application_named_like_a_command_is_an_application(served):
    """Import strings have a colon, so `reload:app` serves and `reload` is the command."""
    main(["reload:app"])
    assert served[0].app == "reload:app"


def test_every_flag_of_the_table_is_known(served, capsys):
    main(["--help-all"])
    shown = capsys.readouterr().out
    for option in OPTIONS.values():
        for name in (option.flag, *option.aliases, *option.scaled_aliases):
            assert name in shown


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["main:app", "--workers", "four"], "--workers 'four': expected an integer"),
        (["main:app", "--port", "x"], "--port 'x': expected an integer from 0 to 65535"),
        (["main:app", "--workerz", "1"], "--workers"),
        (["main:app", "--ssl-keyfile", "x"], "needs the certificate that goes with it"),
        (["main:app", "--bind", "127.0.0.1:1 tls"], "tls needs a certificate"),
        (["main:app", "--ssl-context-factory", "x"], "--ssl-context-factory: Import string"),
        (["main:app", "--forwarded-allow-ips", "10.0.0.1/8"], "10.0.0.0/8"),
        (["main:app", "--interface", "asgi2"], "guarantee_single_callable"),
        (["main:app", "--bind", "::1:80"], "brackets"),
        (["main:app", "--uds", "/x", "--port", "1"], "both say where to listen"),
        (["main:app", "other:app"], "other:app"),
        (["main:app", "--app", "other:app"], "say the same"),
        (["relaod"], "did you mean the command reload?"),
        (["relaod", "--wait"], "did you mean the command reload?"),
        (
            ["main"],
            'Import string "main" must be in format "<module>:<attribute>". Did you mean "main:app"?',
        ),
        (["--workers", "2"], "no application was given"),
        (["main:app", "--admin-port", "1", "--admin-host", "::"], "admin_token_file"),
        (["scale", "many"], "many"),
        (["reload", "--timeout", "soon"], "expected a duration"),
        (["reload", "--pid", "1", "--pid-file", "x"], "give one of"),
    ],
)
def test_mistakes_end_with_2_and_say_what_to_do(served, capsys, words, error):
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("asgireload: error: ")
    assert error in shown
    assert not served


def test_an_address_in_use_ends_with_3_and_names_it():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "asgireload", "main:app", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_arguments_the_application_is_missing_and_few_lines_say_so(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("asgireload: error: no application was given")
    assert "Usage: asgireload [OPTIONS] APP" in shown
    assert len(shown.splitlines()) <= 4


def test_without_arguments_the_application_of_the_file_is_served(served, tmp_path):
    (tmp_path / "asgireload.toml").write_text("app = 'main:app'")
    main([])
    assert served[0].app == "main:app"


def test_a_module_with_nearly_the_name_of_a_command_is_not_taken_for_one(served, capsys, tmp_path):
    (tmp_path / "statsu.py").touch()
    assert main(["statsu"]) == 2
    assert 'Did you mean "statsu:app"?' in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_shows_the_commands_and_the_options_that_most_need(capsys, flag):
    assert main([flag]) == 0
    shown = capsys.readouterr().out
    for command in COMMAND_HELP:
        assert f"\n  {command} " in shown
    assert len(COMMON) == 15
    for option in OPTIONS.values():
        row = rf"^  (-\w, )?{option.flag}(?![a-z-])"
        is_shown = re.search(row, shown, re.MULTILINE) is not None
        assert is_shown == (option.name in COMMON), option.name
    assert "--help-all" in shown
    assert len(shown.splitlines()) < 70


def test_the_configuration_is_printed_with_origins(capsys, monkeypatch):
    monkeypatch.setenv("ASGIRELOAD_WORKERS", "3")
    assert main(["main:app", "--print-config", "--port", "1"]) == 0
    lines = {
        line.split(" = ")[0]: line.split("#")[-1].strip()
        for line in capsys.readouterr().out.splitlines()
    }
    assert lines["workers"] == "ASGIRELOAD_WORKERS"
    assert (lines["port"], lines["host"]) == ("--port", "default")


def test_the_configuration_is_checked(capsys, monkeypatch, tmp_path):
    (tmp_path / "main.py").write_text("app = None")
    monkeypatch.chdir(tmp_path)
    assert main(["main:app", "--check-config", "--reload-dir", "src"]) == 0
    assert "no effect without --reload" in capsys.readouterr().err
    monkeypatch.setenv("ASGIRELOAD_WORKERZ", "3")
    assert main(["main:app", "--check-config"]) == 2
    assert "ASGIRELOAD_WORKERS" in capsys.readouterr().err


def test_an_access_log_format_that_cannot_be_used_is_a_usage_error(capsys):
    assert main(["main:app", "--access-logformat", "%(h)s %(zz)s", "--check-config"]) == 2
    assert (
        "error: --access-log-format '%(h)s %(zz)s': column 7: there is no atom %(zz)s"
    ) in capsys.readouterr().err


def test_checking_the_configuration_reads_the_file_for_the_log(tmp_path, capsys, monkeypatch):
    (tmp_path / "main.py").write_text("app = None")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "log.toml"
    file.write_text("version = 2")
    assert main(["main:app", "--log-config", str(file), "--check-config"]) == 2
    assert f"--log-config {file}: version: expected 1" in capsys.readouterr().err
    file.write_text("version = 1")
    assert main(["main:app", "--log-config", str(file), "--check-config"]) == 0


def test_the_version_names_the_optional_parts(capsys):
    assert main(["--version"]) == 0
    shown = capsys.readouterr().out
    # A checkout is never compiled; an installed package may be.
    build = "(compiled)" if is_compiled() else "(pure Python)"
    assert shown.startswith(f"asgireload {asgireload.__version__} {build} with CPython")
    assert "uvloop installed" in shown


def test_python_can_start_a_server_with_uvicorns_keywords(served):
    with pytest.raises(SystemExit) as caught:
        asgireload.run("main:app", host="::1", port=1, limit_max_requests=5)
    assert caught.value.code == 4
    assert (served[0].host, served[0].max_requests) == ("::1", 5)


def test_python_cannot_hand_over_an_application_object(served):
    with pytest.raises(ConfigError, match="import string"):
        asgireload.run(object())


def test_draining_is_a_function_although_a_module_has_its_name():
    import asgireload.draining

    assert not asgireload.draining()


@pytest.mark.parametrize(
    ("words", "status"), [(["--version"], 0), ([], 2), (["main:app", "--port", "x"], 2)]
)
def test_the_process_ends_with_the_status(words, status):
    done = subprocess.run(
        [sys.executable, "-m", "asgireload", *words], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == status
    assert b"Traceback" not in done.stderr


def test_signals_wait_while_a_server_begins_and_the_mask_is_given_back(monkeypatch):
    masks = []

    def serve(config, early_template):
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return 0

    monkeypatch.setattr(serve_module, "serve", serve)
    monkeypatch.setattr(serve_module, "announce", lambda loaded: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert main(["main:app"]) == 0
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= masks[0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize("words", ["main:app --workers four", "main:app --workers", "--workers 1"])
def test_a_mistake_leaves_no_process_behind(words, monkeypatch):
    begun = []
    begin = EarlyTemplate.begin

    def note(self, *, is_program):
        assert not is_program, "we are a test"
        begin(self)
        begun.append(self._begun.pid)

    monkeypatch.setattr(EarlyTemplate, "begin", note)
    assert main(words.split()) == 2
    (pid,) = begun
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


@pytest.mark.parametrize("words", ["--version", "main:app --check-config", "status --pid 1", ""])
def test_no_template_begins_where_nothing_is_served(words, monkeypatch):
    begun = []
    monkeypatch.setattr(EarlyTemplate, "begin", lambda *_, **__: begun.append("one"))
    main(words.split())
    assert not begun


def test_a_start_imports_no_event_loop_before_the_first_order_and_no_click_at_all():
    code = (
        "import sys; from asgireload.cli.serve import load_words; from asgireload.cli.words import read_plain;"
        " load_words(read_plain(['main:app', '--workers', '2'])); import asgireload.supervisor.start;"
        " print(*{'asyncio', 'asgireload.supervisor.reconcile'} & {*sys.modules});"
        " import asgireload.supervisor.loop;"
        " print(*{'click', 'http.client', 'tomllib', 'asgireload.http1.connection', 'uvloop'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "words",
    [
        ["--uds", "/x", "--uds-owner", "no-such-user:"],
        ["--uds", "/x", "--uds-owner", "no-such-user"],
        ["--bind", "unix:/x owner=:no-such-group"],
        ["--admin-socket", "/x", "--admin-socket-owner", "no-such-user"],
    ],
)
def test_an_owner_that_does_not_exist_is_found_before_the_start(words, capsys):
    assert main(["main:app", "--check-config", *words]) == 2
    error = capsys.readouterr().err
    assert words[-2] in error
    assert "no-such" in error
