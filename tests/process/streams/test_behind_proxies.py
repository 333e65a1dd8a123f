"""Event streams behind nginx and HAProxy: their clients see as little of a reload as without them."""

import asyncio
import contextlib
import socket
import subprocess

import pytest

from tests.prerequisites import find
from tests.process.running import wait_until
from tests.process.streams.serving import Counting, StreamServer, assert_every_number_once

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

PROGRAMS = {name: find(name) for name in ("nginx", "haproxy")}
NGINX_CONF = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    server {{
        listen 127.0.0.1:{front};
        location / {{
            proxy_pass http://127.0.0.1:{back};
            {settings}
        }}
    }}
}}
"""
HAPROXY_CONF = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {settings}
listen streams
    bind 127.0.0.1:{front}
    server app 127.0.0.1:{back}
"""
ONE_ONE = 'proxy_http_version 1.1; proxy_set_header Connection "";'
CASES = [
    # HTTP/1.0, where the end of the connection ends a stream; the application says X-Accel-Buffering.
    pytest.param("nginx", "", id="nginx as it comes"),
    pytest.param("nginx", "proxy_buffering off;", id="nginx without buffering"),
    pytest.param("nginx", f"{ONE_ONE} proxy_buffering off;", id="nginx with HTTP/1.1"),
    pytest.param("haproxy", "", id="haproxy"),
    pytest.param("haproxy", "option http-server-close", id="haproxy with http-server-close"),
]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def answers(port):
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    return False


@contextlib.contextmanager
def proxy(program, directory, back, settings):
    """Run the proxy in front of the port `back`, and yield its own port."""
    front = free_port()
    path = directory / f"{program}.conf"
    log = directory / f"{program}.log"
    template = NGINX_CONF if program == "nginx" else HAPROXY_CONF
    path.write_text(template.format(directory=directory, front=front, back=back, settings=settings))
    if program == "nginx":
        command = [PROGRAMS[program], "-p", str(directory), "-e", "stderr", "-c", str(path)]
    else:
        command = [PROGRAMS[program], "-db", "-f", str(path)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        wait_until(
            lambda: answers(front) or process.poll() is not None, what=f"an answer of {program}"
        )
        assert process.poll() is None, log.read_text()
        yield front
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("program", "settings"), CASES)
def test_clients_of_a_proxy_miss_nothing_and_those_with_ids_see_nothing(
    tmp_path, program, settings
):
    if PROGRAMS[program] is None:
        pytest.skip(f"{program} is not installed")

    async def scenario(server, port):
        with_ids = [await Counting(port, "/ids").start() for _ in range(2)]
        without = [await Counting(port, "/plain").start() for _ in range(2)]
        for version in (2, 3):
            server.release(version)
            await asyncio.to_thread(server.reload)
            for client in (*with_ids, *without):
                await client.wait_version(version)
        for client in (*with_ids, *without):
            await client.stop()
            assert_every_number_once([number for number, _ in client.values])
        assert [client.ends for client in with_ids] == [0, 0]
        assert [client.ends for client in without] == [2, 2]

    with (
        StreamServer(tmp_path, "plain_asgi") as server,
        proxy(program, tmp_path, server.port, settings) as port,
    ):
        asyncio.run(scenario(server, port))
        server.assert_quiet()
