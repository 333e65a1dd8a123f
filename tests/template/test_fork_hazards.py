"""What an import leaves behind that forbids forking, and what is harmless.

Each case runs in a fresh interpreter, since threads and descriptors belong to a process.
"""

import json
import subprocess
import sys
import textwrap

import pytest

PROBE = """
import json, sys
from asgireload.template.leftovers import find_leftovers, open_descriptors
before = open_descriptors()
exec(sys.argv[1])
found = find_leftovers(before)
print(json.dumps([found.unsafe, found.native_threads]))
"""


def leftovers(code):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, textwrap.dedent(code)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    unsafe, native = json.loads(done.stdout.splitlines()[-1])
    return unsafe, native


@pytest.mark.parametrize(
    "code",
    [
        "import asyncio, json, sqlite3, ssl",
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9))",
        "import socket; s = socket.socket()",
        "f = open('/dev/null')",
    ],
    ids=["imports", "datagrams", "unconnected socket", "a file"],
)
def test_harmless(code):
    assert leftovers(code) == ([], [])


def test_a_thread_that_has_ended_is_harmless():
    unsafe, _ = leftovers(
        "import threading; t = threading.Thread(target=print, args=('x',)); t.start(); t.join()"
    )
    assert unsafe == []  # the kernel may still list it for a moment


def test_a_python_thread_is_named_with_its_place():
    unsafe, _ = leftovers(
        """
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), daemon=True, name="poller").start()
        time.sleep(0.05)
        """
    )
    assert len(unsafe) == 1
    assert "thread 'poller' was started at import" in unsafe[0]


def test_a_listening_socket_is_named_with_its_address():
    unsafe, _ = leftovers(
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])"
    )
    assert len(unsafe) == 1
    assert "listens on 127.0.0.1:" in unsafe[0]


def test_a_connection_is_named_with_its_peer():
    unsafe, _ = leftovers(
        """
        import socket
        listener = socket.create_server(('127.0.0.1', 0))
        before = open_descriptors()
        connection = socket.create_connection(listener.getsockname())
        """
    )
    assert len(unsafe) == 1
    assert "a connection to 127.0.0.1:" in unsafe[0]


def test_an_event_loop_made_at_import_is_found():
    unsafe, _ = leftovers("import asyncio; loop = asyncio.new_event_loop()")
    assert "an event loop or selector was made at import" in unsafe
