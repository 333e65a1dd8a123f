"""The documentation agrees with itself and with the code: links, options, signals, exit codes, paths."""

import re
import signal
import subprocess
import typing
from pathlib import Path

import click
import pytest

from asgireload import errors
from asgireload.cli import control as commands
from asgireload.cli.command import serve_command
from asgireload.config import OPTIONS
from asgireload.config.foreign import ABSENT
from asgireload.ipc import messages, parcels
from asgireload.ipc.exit_time import EXIT_LEAST
from asgireload.ipc.quiet_signals import make_quiet
from asgireload.supervisor import fleet, signals

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SIGNALS_PAGE = ROOT / "docs" / "reference" / "signals.md"
DEPLOY_PAGE = ROOT / "docs" / "howto" / "deploy.md"
MIGRATION_PAGE = ROOT / "docs" / "howto" / "migrate-from-uvicorn.md"

OF_OTHER_PROGRAMS = {
    "--stop-timeout": "docker",
    "--init": "docker",
    "--unix-socket": "curl",
    "--no-cache-dir": "pip",
    "--no-deps": "pip",
    "--wheel-dir": "pip",
    "--threads": "gunicorn",
    "--configure": "debugpy, its --configure-subProcess",
    "--listen": "debugpy",
    "--parallel-mode": "coverage",
}
"""Flags in the documentation that are not ours, with whose they are."""

ids = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=ids)


def without_code(text):
    """Return the text without fenced blocks and code spans, where brackets are no links."""
    return re.sub(
        r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )


def anchors(page):
    """Return the anchors of a page's headings, as forges make them."""
    found = set()
    fenceless = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", fenceless, flags=re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(kept.replace(" ", "-"))
    return found


def section(page, title):
    """Return the text below the heading `title`, up to the next heading of any level."""
    found = re.search(
        rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found, f"{page.name} has no section {title!r}"
    return found[1]


def rows(text):
    """Return the cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names_in(cell):
    return {signal.Signals[name] for name in re.findall(r"SIG[A-Z0-9]+", cell)}


def known_flags():
    """Return every flag that some command of ours takes, and those of uvicorn that we explain."""
    found = {"--help"}
    for command in (serve_command, *commands.control.commands.values()):
        for param in command.params:
            if isinstance(param, click.Option):
                found.update((*param.opts, *param.secondary_opts))
    return found | {"--" + name.replace("_", "-") for name in ABSENT}


# --- links and paths ------------------------------------------------------------------------------


@every_page
def test_internal_links_lead_somewhere(page):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.is_file():
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(linked):
            wrong.append(f"{target}: no such heading")
    assert not wrong, "\n".join(wrong)


def test_every_page_is_reached_from_the_index():
    index = ROOT / "docs" / "index.md"
    linked = {
        (index.parent / target.partition("#")[0]).resolve()
        for target in re.findall(r"\]\(([^)\s]+)\)", index.read_text())
    }
    missing = [
        str(page.relative_to(ROOT))
        for page in PAGES
        if page.is_relative_to(ROOT / "docs") and page != index and page not in linked
    ]
    assert not missing


@every_page
def test_no_path_of_a_developers_machine_is_named(page):
    assert not re.findall(r"(?<!\w)/(?:home|Users|root|work)/\S*", page.read_text())


# --- options --------------------------------------------------------------------------------------


@every_page
def test_every_flag_that_is_named_exists(page):
    text = page.read_text()
    named = set(re.findall(r"(?<![\w\-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*\b", text))
    unknown = named - known_flags() - set(OF_OTHER_PROGRAMS)
    assert not unknown


@every_page
def test_every_variable_of_ours_that_is_named_exists(page):
    named = set(re.findall(r"\bASGIRELOAD_[A-Z0-9_]*[A-Z0-9]\b", page.read_text()))
    assert named <= {option.variable for option in OPTIONS.values()} | {
        "ASGIRELOAD_CONFIG",
        "ASGIRELOAD_COMPILE",  # for the build
    }


def test_the_migration_page_covers_every_option_that_uvicorn_has_too():
    text = MIGRATION_PAGE.read_text()
    flags = {
        flag
        for option in OPTIONS.values()
        if option.uvicorn is not None and option.name != "app"
        for flag in (option.flag, *option.aliases)
        if flag.startswith("--") and flag.endswith(option.uvicorn.rstrip("s").replace("_", "-"))
    }
    assert "--timeout-graceful-shutdown" in flags
    missing = {flag for flag in flags if f"`{flag}`" not in text}
    missing |= {name for name in ABSENT if f"--{name.replace('_', '-')}`" not in text}
    assert not missing


# --- the deploy script and the unit ---------------------------------------------------------------


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_deploy_script_and_the_unit_mean_one_server():
    """A script without an address reloads whatever server it finds, and tells of success."""
    unit = next(text for text in blocks(DEPLOY_PAGE, "ini") if "[Service]" in text)
    socket = re.search(r"^Environment=ASGIRELOAD_ADMIN_SOCKET=(\S+)$", unit, re.MULTILINE)[1]
    directory = re.search(r"^RuntimeDirectory=(\S+)$", unit, re.MULTILINE)[1]
    assert Path(socket).parent == Path("/run", directory)
    scripts = blocks(DEPLOY_PAGE, "sh")
    assert f"\nsocket={socket} " in scripts[0]
    commands_given = [
        line for text in scripts for line in text.splitlines() if re.search(r"\basgireload ", line)
    ]
    assert len(commands_given) == 2
    for line in commands_given:
        assert '--socket "$socket"' in line
    # ExecReload has the variable, like the server.
    assert re.search(r"^ExecReload=\S+/asgireload reload --wait$", unit, re.MULTILINE)
    for text in scripts:
        assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


# --- signals and exit codes -----------------------------------------------------------------------


def named_unused():
    """The unused signals that have a name; the reference describes the others in a sentence."""
    return [number for number in signals.unused() if isinstance(number, signal.Signals)]


def test_signals_to_the_supervisor_are_those_of_the_table_in_the_code():
    documented = {
        frozenset(names_in(cells[0])): cells[1]
        for cells in rows(section(SIGNALS_PAGE, "Signals to the supervisor"))
    }
    assert set(documented) == {
        frozenset(group)
        for group in (
            signals.RELOAD,
            signals.STOP,
            signals.STOP_AT_ONCE,
            signals.MORE_WORKERS,
            signals.FEWER_WORKERS,
            signals.RESERVED,
            signals.CHILD,
            named_unused(),
        )
    }
    for group, words in (
        (signals.RELOAD, "reload"),
        (signals.STOP, "stop gracefully"),
        (signals.STOP_AT_ONCE, "stop at once"),
        (signals.MORE_WORKERS, "one worker more"),
        (signals.FEWER_WORKERS, "one worker less"),
        (signals.RESERVED, "nothing is done"),
        (named_unused(), "nothing"),
    ):
        assert words in documented[frozenset(group)]


def test_signals_that_children_let_pass_are_those_of_the_code(monkeypatch):
    let_pass = set()
    monkeypatch.setattr(signal, "signal", lambda number, handler: let_pass.add(number))
    make_quiet()
    table = rows(section(SIGNALS_PAGE, "Signals to a worker"))
    passed = [names_in(cells[0]) for cells in table if cells[1] == "nothing"]
    assert passed == [let_pass]


def test_exit_codes_of_the_server_are_those_of_the_errors():
    codes = {
        int(cells[0]): cells[1] for cells in rows(section(SIGNALS_PAGE, "Exit codes of the server"))
    }
    assert set(codes) == {
        0,
        errors.ConfigError.exit_code,
        errors.StartupError.exit_code,
        errors.GaveUpError.exit_code,
        errors.ShutdownError.exit_code,
        130,
    }
    assert "could not start" in codes[errors.StartupError.exit_code]
    assert "--give-up-after" in codes[errors.GaveUpError.exit_code]


def test_exit_codes_of_commands_are_those_of_the_code():
    section_text = section(SIGNALS_PAGE, "Exit codes of commands")
    codes = {int(cells[0]): cells[1] for cells in rows(section_text)}
    assert set(codes) == {
        commands.DONE,
        commands.NOT_DONE,
        errors.ConfigError.exit_code,
        commands.UNREACHED,
        130,
    }
    assert codes[commands.DONE] == "committed"
    assert "failed" in codes[commands.NOT_DONE]
    assert "no server" in codes[commands.UNREACHED]
    named = set(re.findall(r"`(?:asgireload )?([\w-]+)`", section_text.strip().splitlines()[0]))
    assert named == set(commands.control.commands)


def test_the_time_of_a_stop_is_the_sum_of_its_limits():
    text = section(SIGNALS_PAGE, "Time that a stop takes")
    table = [float(cells[1].removesuffix(" s")) for cells in rows(text)]
    assert table == [
        OPTIONS["drain_timeout"].default,
        OPTIONS["lifespan_timeout"].default,
        EXIT_LEAST,
        fleet.ABORT_GRACE,
    ]
    assert f"{sum(table):g} s at the very most" in text
    assert sum(table) < 30  # the stock grace period of Kubernetes


def test_the_page_of_messages_names_each_of_them():
    page = (ROOT / "docs/explanation/messages.md").read_text()
    types = {*typing.get_args(messages.AnyMessage), *typing.get_args(parcels.PassageMessage)}
    types |= set(typing.get_args(parcels.Parcel))
    missing = [kind.__name__ for kind in types if f"`{kind.__name__}`" not in page]
    assert not missing
