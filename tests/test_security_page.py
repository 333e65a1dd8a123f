"""The security page claims nothing that no test holds, and its figures are those of the code."""

import ast
import asyncio.constants
import asyncio.selector_events
import asyncio.sslproto
import re
from pathlib import Path

import pytest

from asgireload.config import OPTIONS, load_config
from asgireload.http import exchange
from asgireload.http1 import chunked, write_scheduling
from asgireload.net import proxy_protocol
from asgireload.websocket import connection as websocket_connection
from asgireload.websocket import deflate
from tests.test_docs import rows, section

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "security.md"
TEXT = PAGE.read_text()

TEST_NAME = re.compile(r"`([\w/]+\.py)::([\w:]+)`")
CORPUS = re.compile(r"`corpus/([\w-]+)`")
KIB = 1024


def named_tests(file):
    """Return the names of the tests in a file, as pytest names them behind the path."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found.update(f"{node.name}::{child.name}" for child in node.body if is_test(child))
        elif is_test(node):
            found.add(node.name)
    return found


def is_test(node):
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def tables():
    """Return (head, cells of its rows) for each table of the page."""
    blocks = re.findall(r"(?:^\|.*\n)+", TEXT, flags=re.MULTILINE)
    heads = [
        [cell.strip() for cell in block.split("\n", 1)[0].strip("|").split("|")] for block in blocks
    ]
    return list(zip(heads, map(rows, blocks), strict=True))


THREATS = [cells for head, body in tables() for cells in body if head[-1] == "Test"]


def test_every_test_that_is_named_exists():
    named = TEST_NAME.findall(TEXT)
    assert len(named) > 100
    known = {
        path: named_tests(ROOT / "tests" / path)
        for path, _ in named
        if (ROOT / "tests" / path).is_file()
    }
    missing = [f"{path}::{name}" for path, name in named if name not in known.get(path, ())]
    assert not missing, "\n".join(missing)


def test_every_directory_of_the_corpus_that_is_named_has_requests():
    named = set(CORPUS.findall(TEXT))
    assert named
    for name in named:
        assert list((ROOT / "tests" / "corpus" / name).glob("*.http")), name


@pytest.mark.parametrize("cells", THREATS, ids=[cells[0][:50] for cells in THREATS])
def test_every_threat_has_a_defence_a_place_and_a_test(cells):
    threat, defence, where, test = cells
    assert threat
    assert defence
    assert TEST_NAME.search(test) or CORPUS.search(test)
    for path in re.findall(r"`((?:asgireload|tests)/[\w/]+\.py)`", where):
        assert (ROOT / path).is_file(), path


# --- figures --------------------------------------------------------------------------------------


def size(cell):
    """Return the bytes that a cell of the table names."""
    if not cell:
        return 0
    number, unit = cell.split(" ")[:2]
    return int(number) * {"KiB": KIB, "MiB": KIB * KIB}[unit.rstrip(",;")]


def test_what_a_connection_can_hold_is_computed_from_the_code():
    default = {name: option.default for name, option in OPTIONS.items()}
    read = asyncio.selector_events._SelectorTransport.max_size
    below_tls = asyncio.constants.FLOW_CONTROL_HIGH_WATER_SSL_READ * KIB
    # Everything undecrypted comes at once when reading goes on.
    tls_read = below_tls + read
    high_water = 64 * KIB  # asyncio.transports._FlowControlMixin._set_write_buffer_limits
    head = default["limit_request_head"]
    body = exchange.BODY_HIGH_WATER_BYTES
    early = websocket_connection.EARLY_BYTES
    # The queue is full from 64 KiB a place on; the message that fills it and the next may be the largest.
    messages = 64 * KIB * default["ws_max_queue"] + 2 * default["ws_max_size"]
    # zconf.h: what deflate takes; inflate takes its window of 32 KiB and some 8 KiB.
    compressor = (1 << deflate.SEND_WINDOW_BITS + 2) + (1 << deflate._SEND_MEMORY_LEVEL + 9)
    windows = compressor + (32 + 8) * KIB
    tls_write = asyncio.constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE * KIB + high_water
    expected = [
        (proxy_protocol.MAX_HEADER_BYTES,) * 2,
        (head, head),
        (chunked.LINE_BYTES,) * 2,
        (head, head),
        (body + read, body + tls_read),
        (0, tls_read + asyncio.sslproto.SSLProtocol.max_size),
        (write_scheduling.PIECES_MOST_BYTES, tls_write + write_scheduling.PIECES_LEAST_BYTES),
        (early + read, early + tls_read),
        (messages, messages),
        (read, tls_read),
        (windows, windows),
    ]
    table = rows(section(PAGE, "What one connection can hold"))
    assert [(size(cells[1]), size(cells[2])) for cells in table] == expected


def test_the_recommended_file_is_accepted(tmp_path):
    (source,) = re.findall(r"^```toml\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "asgireload.toml").write_text(source)
    loaded = load_config([], {}, str(tmp_path))
    assert loaded.warnings == ()
    named = set(re.findall(r"^(\w+) =", source, flags=re.MULTILINE))
    assert named == {name for name, origin in loaded.origins.items() if origin != "default"}
