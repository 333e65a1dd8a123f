"""While a reload or a stop waits for old workers, everybody is told for what: command, log and status."""

import re
import socket
import subprocess
import sys
import threading

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

ENDLESS = """
async def endless(scope, receive, send):
    kind = scope['path'][1:].encode()
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', kind)]})
    while True:
        await send({'type': 'http.response.body', 'body': b'data: 1\\n\\n', 'more_body': True})
        await asyncio.sleep(0.05)
PATHS['/text/event-stream'] = PATHS['/text/plain'] = endless
"""
WEBSOCKET = (
    b"GET /ws?token=secret HTTP/1.1\r\nhost: test\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


def opened(server, data):
    """Send a request; return the connection when the response has begun. What follows is read elsewhere."""
    client = socket.create_connection(("127.0.0.1", server.port), 30)
    client.sendall(data)
    assert client.recv(1000).startswith(b"HTTP/1.1 ")

    def read():
        try:
            while client.recv(65536):
                pass
        except OSError:
            pass  # closed by the test

    threading.Thread(target=read, daemon=True).start()
    return client


def leave(*clients):
    """End connections now: a close alone would wait for the thread that reads."""
    for client in clients:
        client.shutdown(socket.SHUT_RDWR)
        client.close()


def start_command(server, shown, *words):
    """Start a command whose standard error goes to the file `shown`."""
    command = [sys.executable, "-m", "asgireload", *words, "--socket", str(server.admin_socket)]
    with shown.open("w") as err:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True)


def get(server, path):
    return opened(server, b"GET %s?token=secret HTTP/1.1\r\nhost: test\r\n\r\n" % path)


def test_a_reload_that_waits_names_the_connections_that_hold_it(tmp_path):
    write_version(tmp_path, 1, extra=ENDLESS)
    options = (
        *("--no-drain-overlap", "--drain-timeout", "60", "--probation", "0"),
        *("--event-stream-notice", "60", "--ws-close-window", "0"),
    )
    with Server(tmp_path, *options, workers=1) as server:
        holders = [get(server, b"/text/event-stream"), get(server, b"/text/plain")]
        silent = opened(server, WEBSOCKET)
        assert "Reload 1: committed" in server.reload()
        command = start_command(server, tmp_path / "shown", "reload", "--wait")
        line = "Reload 2 waits for 1 worker of generation 1 to drain, "
        wait_until(lambda: re.search(f"{line}.*: ", server.log))
        seen = server.status()
        assert seen["waits_for"].startswith(line)
        assert seen["pending_reload"]["waits_for"].startswith("1 worker of generation 1 to drain")
        (draining,) = server.workers("draining")
        shown = server.control("status").stdout
        assert "  waits for 1 worker of generation 1 to drain" in shown
        assert f"  slot 0, pid {draining['pid']}, waits for " in shown
        wait_until(lambda: line in (tmp_path / "shown").read_text())
        leave(*holders, silent)
        out, _ = command.communicate(timeout=60)
        err = (tmp_path / "shown").read_text()
        assert command.returncode == 0
        assert "Reload 2: committed" in out
        assert line in err
        for text in (re.search(f"{line}.*: .*", server.log)[0], err, shown):
            assert "1 event stream" in text
            assert "1 request" in text
            assert "GET /text/plain for " in text
            assert "s from 127.0.0.1:" in text
            assert "secret" not in text


def test_a_stop_that_waits_names_the_connections_that_hold_it(tmp_path):
    write_version(tmp_path, 1, extra=ENDLESS)
    with Server(tmp_path, "--drain-timeout", "60", workers=1) as server:
        client = get(server, b"/text/plain")
        command = start_command(server, tmp_path / "shown", "stop", "--wait")
        line = "The stop waits for 1 worker to drain, "
        wait_until(lambda: line in (tmp_path / "shown").read_text())
        leave(client)
        out, _ = command.communicate(timeout=60)
        assert command.returncode == 0
        assert "1 request: GET /text/plain for " in (tmp_path / "shown").read_text()
        assert "has stopped" in out
        assert line in server.log


def test_a_drain_that_is_quick_says_nothing(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, "--no-drain-overlap", "--probation", "0", workers=2) as server:
        assert "waits for" not in server.reload()
        assert "waits for" not in server.log
