"""What a running server believes of the requests that come from a proxy on this machine."""

import json
import re
import socket

import pytest

from tests.process.running import Server

pytestmark = pytest.mark.process

APP = """
import json

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    facts = {"client": scope["client"], "scheme": scope["scheme"], "root_path": scope["root_path"]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(facts).encode()})
"""


def ask(port):
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        own = client.getsockname()
        client.sendall(
            b"GET / HTTP/1.0\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1:4711\r\n"
            b"X-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /shop\r\n\r\n"
        )
        answer = b""
        while data := client.recv(65536):
            answer += data
    return json.loads(answer.split(b"\r\n\r\n", 1)[1]), own


def test_a_proxy_on_this_machine_is_believed_unless_others_are_named(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    with Server(tmp_path, "--forwarded-fields", "for,prefix", workers=1) as server:
        facts, _ = ask(server.port)
        assert facts == {"client": ["192.0.2.1", 4711], "scheme": "http", "root_path": "/shop"}
    others = {"FORWARDED_ALLOW_IPS": "10.0.0.0/8,unix"}
    with Server(tmp_path, workers=1, env=others) as server:
        facts, own = ask(server.port)
        assert facts == {"client": list(own), "scheme": "http", "root_path": ""}


def test_one_address_may_expect_proxy_headers_and_another_not(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    binds = ("--bind", "127.0.0.1:0", "--bind", "127.0.0.1:0 proxy")
    with Server(tmp_path, *binds, workers=1) as server:
        plain, proxied = re.findall(r"http://127.0.0.1:(\d+)", server.log)[:2]
        assert ask(int(plain))[0]["client"] == ["192.0.2.1", 4711]
        with socket.create_connection(("127.0.0.1", int(proxied)), 10) as client:
            client.sendall(
                b"PROXY TCP4 198.51.100.7 198.51.100.8 5000 443\r\n"
                b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
            )
            answer = b""
            while data := client.recv(65536):
                answer += data
        assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["client"] == ["198.51.100.7", 5000]
        with socket.create_connection(("127.0.0.1", int(proxied)), 10) as client:
            client.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            try:
                assert client.recv(65536) == b""
            except ConnectionResetError:
                pass  # what it sent was not read
