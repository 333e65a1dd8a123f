"""What the documentation tells people to type, and the configurations it tells them to write."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from asgireload.cli.command import serve_command
from asgireload.cli.commands import COMMAND_HELP
from asgireload.cli.control import control
from asgireload.cli.flags import flag_values
from asgireload.config import FlagValue, load_config
from asgireload.config.options import OPTIONS
from asgireload.log import read_user_config
from asgireload.net.addresses import check_addresses
from tests.certificates import AUTHORITY
from tests.prerequisites import find

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs" / "howto").glob("*.md"),
    *(ROOT / "docs" / "explanation").glob("*.md"),
    *(ROOT / "docs" / "reference").glob("*.md"),
    ROOT / "examples" / "README.md",
]
PROGRAM = re.compile(r"(?<![\w/.\-'\"])(?:\.venv/bin/|/srv/shop/venv/bin/)?asgireload(?= )")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(asgireload [^`\n]+|\.venv/bin/asgireload [^`\n]+)`")
MISTAKES = [["main:app", "--threads", "4"]]
"""Shown with the error that they get."""
OF_A_SHELL = {"console", "sh", "ini", "yaml"}


def commands_in(page):
    """Yield the arguments of each call of asgireload that a page shows."""
    text = page.read_text()
    lines = [
        line
        for language, block in FENCE.findall(text)
        if language in OF_A_SHELL
        for line in block.replace("\\\n", " ").splitlines()
        # What a command prints begins otherwise than what is typed.
        if language != "console" or line.startswith("$ ")
    ]
    lines += SPAN.findall(FENCE.sub("", text))
    for line in lines:
        code = re.sub(r"(^|\s)#.*", "", line)
        for match in PROGRAM.finditer(code):
            # Up to the end of this command of the shell, or of an inline mention such as `asgireload APP …`.
            rest = re.split(r"[|;&>]|\$\(", code[match.end() :])[0]
            # … stands for what is left out, or for the value of an option.
            words = shlex.split(re.sub(r"(?<!\S)(?<!--)(\S*:\S*) …", r"\1", rest).replace("…", "x"))
            if words and words[:2] != ["running", "on"] and words not in MISTAKES:
                if not words[0].isupper() and "<" not in rest:
                    yield words


COMMANDS = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)}")
    for page in sorted(PAGES)
    for words in commands_in(page)
]


def test_the_commands_are_found():
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_in_the_documentation_is_one(tmp_path, words):
    first = words[0]
    if first in COMMAND_HELP:
        with control.commands[first].make_context(first, words[1:]):
            return
    if {"--version", "--help", "--help-all"} & set(words):
        return
    try:
        context = serve_command.make_context("asgireload", list(words))
    except click.exceptions.Exit:
        return
    with context:
        flags = flag_values(serve_command, context.params)
        app = context.params["app_argument"]
        if app is not None:
            assert ":" in app
            flags.append(FlagValue("app", "APP", app, OPTIONS["app"].kind))
        loaded = load_config(flags, {}, str(tmp_path))
        check_addresses(loaded.config)


def test_the_first_command_of_the_readme_names_an_application_that_is_there():
    readme = (ROOT / "README.md").read_text()
    words = next(words for words in commands_in(ROOT / "README.md") if ":" in words[0])
    module, _, attribute = words[0].partition(":")
    directory = words[words.index("--app-dir") + 1]
    assert f"{attribute}(" in (ROOT / directory / f"{module}.py").read_text()
    # The index does not have it yet, and another package may take the name's place there.
    first = readme[: readme.index("## ")]
    assert "pip install '.[standard]'" in first
    assert "pip install 'asgireload" not in first


def test_the_demo_logs_what_people_ask_for_and_not_what_its_page_does():
    page = (ROOT / "examples" / "demo" / "page.html").read_text()
    asked = re.search(r"setInterval\(async.*?fetch\(\"(\w+)\"", page, re.DOTALL)
    recipe = re.search(
        r"^demo:.*?asgireload (app:app.*?)$",
        (ROOT / "Makefile").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    words = recipe[1].split()
    assert words[words.index("--access-log-exclude") + 1] == f"/{asked[1]}"


def test_the_readme_links_the_index_and_the_pages_that_are_needed_first():
    readme = (ROOT / "README.md").read_text()
    for page in (
        "docs/index.md",
        "docs/howto/migrate-from-uvicorn.md",
        "docs/howto/tls.md",
        "docs/howto/behind-a-proxy.md",
        "docs/howto/logging.md",
        "docs/howto/deploy.md",
    ):
        assert f"]({page})" in readme


# --- files ----------------------------------------------------------------------------------------


def blocks(language, containing=""):
    return [
        pytest.param(block, id=f"{page.name} {number}")
        for page in sorted(PAGES)
        for number, (kind, block) in enumerate(FENCE.findall(page.read_text()))
        if kind == language and containing in block
    ]


@pytest.mark.parametrize("block", blocks("toml"))
def test_a_file_in_the_documentation_is_taken(tmp_path, block):
    path = tmp_path / "asgireload.toml"
    path.write_text(block)
    if "formatters" in block:
        read_user_config(str(path))
    elif "[tool.asgireload]" in block:
        path.rename(tmp_path / "pyproject.toml")
        check_addresses(load_config([], {}, str(tmp_path)).config)
    else:
        check_addresses(load_config([], {}, str(tmp_path)).config)


@pytest.mark.parametrize("block", blocks("python"))
def test_code_in_the_documentation_can_be_read(block):
    ast.parse(block.replace("…", "..."))


@pytest.mark.parametrize("block", blocks("python", "app = FastAPI()"))
def test_an_application_in_the_documentation_is_one(tmp_path, block):
    pytest.importorskip("fastapi.sse" if "fastapi.sse" in block else "fastapi")
    (tmp_path / "page.py").write_text(block)
    code = f"from asgireload.app import load_app; load_app('page:app', app_dir={str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True, cwd=ROOT)


HAPROXY = find("haproxy")


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
@pytest.mark.parametrize("block", blocks("", "frontend shop"))
def test_haproxy_takes_the_configurations_of_the_documentation(tmp_path, block):
    path = tmp_path / "haproxy.cfg"
    timeouts = "".join(f"    timeout {name} 5s\n" for name in ("connect", "client", "server"))
    path.write_text(f"defaults\n{timeouts}\n{block}")
    done = subprocess.run(
        [HAPROXY, "-c", "-f", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


# --- nginx ----------------------------------------------------------------------------------------

NGINX = find("nginx")
IN_HTTP = """
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {block}
}}
"""
NGINX_BLOCKS = [
    pytest.param(block, id=f"{page.name} {number}")
    for page in sorted(PAGES)
    for number, block in enumerate(
        block for language, block in FENCE.findall(page.read_text()) if language == "nginx"
    )
]


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("block", NGINX_BLOCKS)
def test_nginx_takes_the_configurations_of_the_documentation(tmp_path, block):
    files = AUTHORITY.issue(tmp_path, "shop", "shop.example")
    given = f"ssl_certificate {files.certfile};\n    ssl_certificate_key {files.keyfile};"
    block = block.replace("# ssl_certificate …, ssl_certificate_key …", given)
    # Ports below 1024 are not for everybody; a test binds nothing that others may have.
    block = re.sub(r"listen 443\b", "listen 127.0.0.1:20443", block)
    if "server {" not in block:
        block = f"server {{ listen 127.0.0.1:20080; {block} }}"
    path = tmp_path / "nginx.conf"
    path.write_text(IN_HTTP.format(directory=tmp_path, block=block))
    done = subprocess.run(
        [NGINX, "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "syntax is ok" in done.stderr


def test_the_configurations_for_nginx_are_found():
    assert len(NGINX_BLOCKS) >= 3
