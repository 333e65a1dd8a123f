"""Certificates of a real server: renewed on disk, broken on disk, reloaded, and asked for."""

import asyncio
import contextlib
import json
import ssl

import pytest

from asgireload.net.x509 import find_certificates, to_pem
from tests.certificates import AUTHORITY
from tests.process.running import Server, wait_until, write_version
from tests.process.starting.test_startup import run

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

TLS = ["--ssl-certfile", "a.pem", "--ssl-keyfile", "a.key", "--no-access-log"]


def certificate_of(server):
    """Return the certificate that a new connection gets, as PEM."""
    return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=10)


def issue(directory, name="a"):
    """Put a new certificate there, as renewals do: each file by a rename. Return it as PEM."""
    files = AUTHORITY.issue(directory, f"{name}-new")
    files.certfile.rename(directory / f"{name}.pem")
    files.keyfile.rename(directory / f"{name}.key")
    first, *_ = find_certificates((directory / f"{name}.pem").read_bytes())
    return to_pem(first)


class Clients:
    """Connections over TLS that ask again and again, new and kept, until told to stop."""

    def __init__(self, port):
        self.port = port
        self.done = 0
        self.lost = []
        self._stopping = False
        self._tasks = []

    def start(self):
        for keeps in (True, True, False):
            self._tasks.append(asyncio.create_task(self._ask(keeps=keeps)))

    async def stop(self):
        self._stopping = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 20)

    async def _ask(self, *, keeps):
        context = AUTHORITY.client_context()
        while not self._stopping:
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.port, ssl=context, server_hostname="localhost"
                )
            except OSError as error:
                self.lost.append(repr(error))
                continue
            try:
                while await self._exchange(reader, writer) and keeps and not self._stopping:
                    pass
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))
            # The end of TLS takes some turns of the loop, which would be gone by then.
            writer.close()
            with contextlib.suppress(OSError):
                await asyncio.wait_for(writer.wait_closed(), 10)

    async def _exchange(self, reader, writer):
        """Ask once; return whether the connection can be used again."""
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).lower()
        assert head.startswith(b"http/1.1 200"), head
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        self.done += 1
        await asyncio.sleep(0.002)
        return b"connection: close" not in head


def test_reloads_and_renewals_lose_no_request(tmp_path):
    """A reload with a new certificate, then a certificate that changes on disk, under requests."""
    write_version(tmp_path, 1)
    issue(tmp_path)
    with Server(tmp_path, *TLS, "--probation", "0.1", workers=2) as server:

        async def scenario():
            clients = Clients(server.port)
            clients.start()
            await asyncio.sleep(0.3)
            for version in (2, 3):
                write_version(tmp_path, version)
                expected = issue(tmp_path)
                await asyncio.to_thread(server.reload)
                assert await asyncio.to_thread(certificate_of, server) == expected
            pids = server.worker_pids()
            expected = issue(tmp_path)
            renewed = "the renewed certificate"
            await asyncio.to_thread(
                wait_until, lambda: certificate_of(server) == expected, 10, renewed
            )
            assert server.worker_pids() == pids, "no worker was replaced"
            await clients.stop()
            return clients

        clients = asyncio.run(scenario())
        assert not clients.lost, f"lost {len(clients.lost)} of {clients.done}: {clients.lost[:5]}"
        assert clients.done > 100


def test_certificates_that_do_not_fit_change_nothing(tmp_path):
    """Neither a change on disk, nor a reload, nor a command, nor a worker that is replaced."""
    write_version(tmp_path, 1)
    good = issue(tmp_path)
    with Server(tmp_path, *TLS, workers=1) as server:
        key = (tmp_path / "a.key").read_bytes()
        (tmp_path / "a.key").write_text("not a key")
        refused = server.control("reload-certificates")
        assert refused.returncode == 1
        assert "there is no private key in it" in refused.stderr
        assert "failed at tls: private key a.key" in server.reload(ok=False)
        (pid,) = server.worker_pids()
        server.control("scale", "2")
        wait_until(lambda: len(server.workers()) == 2)
        assert {certificate_of(server) for _ in range(10)} == {good}
        assert "no private key" in server.status()["certificates_error"]
        (tmp_path / "a.key").write_bytes(key)
        done = server.control("reload-certificates")
        assert (done.returncode, "localhost" in done.stdout) == (0, True)
        assert server.status()["certificates_error"] is None
        assert pid in server.worker_pids()


def test_a_start_with_files_that_do_not_fit_is_status_3_and_asks_nobody(tmp_path):
    write_version(tmp_path, 1)
    issue(tmp_path)
    AUTHORITY.issue(tmp_path, "locked", password="secret")
    files = ["--ssl-certfile", "locked.pem", "--ssl-keyfile", "locked.key"]
    done = run(tmp_path, "app:app", "--port", "0", *files)
    assert (done.returncode, "locked.key: it is encrypted" in done.stderr) == (3, True)
    done = run(tmp_path, "app:app", "--port", "0", *files, "--ssl-keyfile-password", "wrong1")
    assert (done.returncode, "does not open it" in done.stderr) == (3, True)
    assert "wrong1" not in done.stderr


FACTORY = """

def make_context(config, default_factory):
    import ssl
    context = default_factory()
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def broken(config, default_factory):
    raise RuntimeError("no vault")
"""


def test_a_context_factory_runs_in_workers_and_its_failure_is_a_verdict(tmp_path):
    issue(tmp_path)
    write_version(tmp_path, 1, extra=FACTORY)
    with Server(tmp_path, *TLS, "--ssl-context-factory", "app:make_context", workers=1) as server:
        assert certificate_of(server)
        write_version(tmp_path, 2, extra=FACTORY.replace("default_factory()", "None.x", 1))
        verdict = server.reload(ok=False)
        assert "failed at tls in slot 0: AttributeError" in verdict
        assert certificate_of(server)
        assert json.dumps(server.status()["certificates"]).count("localhost") == 1
