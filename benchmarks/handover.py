"""What a reload costs both workers when thousands of idle connections move between them.

    python benchmarks/handover.py [--connections 10000]

One worker of asgireload with each event loop. So many clients in this process send one request each, read
the answer and stay connected; then the server reloads. In both workers a task looks every millisecond how
late it is: the longest delay is how long any client could have been kept waiting by the handover. Told are
that delay for the old worker while it drained and for the new one since it was ready, the seconds from the
command to drain to the exit of the old worker's last connection, and the processor time of each. At the end
every connection is asked again; all must answer, from the new worker. Needs as many descriptors as
connections in each process (ulimit -n).
"""

import argparse
import json
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

APP = '''
import asyncio
import json
import os
import time

import asgireload

READY = time.monotonic()
LATEST = {"delay": 0.0, "began": 0.0, "cpu": 0.0}
INTERVAL = 0.001


async def look():
    """Note how late the loop is; begin anew when the drain does."""
    drains = False
    while True:
        before = time.monotonic()
        await asyncio.sleep(INTERVAL)
        now = time.monotonic()
        if asgireload.draining() and not drains:
            drains = True
            LATEST.update(delay=0.0, began=before, cpu=time.process_time())
        LATEST["delay"] = max(LATEST["delay"], now - before - INTERVAL)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        task = asyncio.create_task(look())
        LATEST["cpu"] = time.process_time()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        task.cancel()
        if LATEST["began"]:
            figures = {
                "delay": LATEST["delay"],
                "seconds": time.monotonic() - LATEST["began"],
                "cpu": time.process_time() - LATEST["cpu"],
            }
            with open("old.json", "w") as file:
                json.dump(figures, file)
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/figures":
        figures = {"delay": LATEST["delay"], "cpu": time.process_time() - LATEST["cpu"]}
        body = json.dumps(figures).encode()
    else:
        body = b"%08d" % os.getpid()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
'''
GET = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
WAIT = 60.0
Kept = TypeVar("Kept")


def wait_for(what: str, condition: Callable[[], Kept]) -> Kept:
    """Poll until `condition()` is true; give up after WAIT seconds."""
    until = time.monotonic() + WAIT
    while not (value := condition()):
        if time.monotonic() > until:
            raise SystemExit(f"{what}: not within {WAIT:g} s")
        time.sleep(0.02)
    return value


def ask_all(clients: Sequence[socket.socket], data: bytes = GET) -> list[bytes]:
    """Send a request on each connection and return the bodies; each answer fits into one read."""
    chosen = selectors.DefaultSelector()
    bodies = []
    for start in range(0, len(clients), 500):
        part = clients[start : start + 500]
        for client in part:
            client.sendall(data)
            chosen.register(client, selectors.EVENT_READ)
        while chosen.get_map():
            ready = chosen.select(WAIT)
            if not ready:
                raise SystemExit("a connection was not answered")
            for key, _ in ready:
                asked = key.fileobj
                assert isinstance(asked, socket.socket)
                answer = asked.recv(65536)
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"a connection was answered with {answer!r}")
                bodies.append(answer.partition(b"\r\n\r\n")[2])
                chosen.unregister(asked)
    return bodies


def measure(loop: str, count: int, port: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the figures of the old and the new worker for one reload."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "app.py").write_text(APP)
        admin = f"{directory}/admin.sock"
        command = [sys.executable, "-m", "asgireload"]
        options = ["--port", str(port), "--admin-socket", admin, "--loop", loop, "--no-access-log"]
        log = (Path(directory) / "log").open("w+")
        options += ["--timeout-keep-alive", "600", "--probation", "0"]
        process = subprocess.Popen(
            [*command, "app:app", *options], cwd=directory, stdout=log, stderr=log
        )
        clients: list[socket.socket] = []
        try:
            wait_for("start", lambda: "running on" in (Path(directory) / "log").read_text())
            clients += [socket.create_connection(("127.0.0.1", port), WAIT) for _ in range(count)]
            ask_all(clients)
            subprocess.run(
                [*command, "reload", "--wait", "--admin-socket", admin],
                check=True,
                cwd=directory,
                stdout=subprocess.DEVNULL,
            )
            left = Path(directory) / "old.json"
            old = json.loads(wait_for("drain", lambda: left.read_text() if left.exists() else ""))
            with socket.create_connection(("127.0.0.1", port), WAIT) as another:
                (figures,) = ask_all([another], GET.replace(b"/ ", b"/figures "))
            if len(set(ask_all(clients))) != 1:
                raise SystemExit("not every connection was answered by the same worker")
            return old, json.loads(figures)
        finally:
            for client in clients:
                client.close()
            process.terminate()
            process.wait(WAIT)
            log.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000)
    count = parser.parse_args().connections
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 500
    if hard < needed:
        raise SystemExit(
            f"needs {needed} open files; raise the hard limit (ulimit -Hn), now {hard}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"Python {sys.version.split()[0]}, {count} connections")
    print("| loop | old: longest delay | CPU | new: longest delay | CPU | seconds in all |")
    print("|---|---|---|---|---|---|")
    for loop in ("uvloop", "asyncio"):
        old, new = measure(loop, count, free_port())
        print(
            f"| {loop} | {old['delay'] * 1e3:.1f} ms | {old['cpu']:.2f} s "
            f"| {new['delay'] * 1e3:.1f} ms | {new['cpu']:.2f} s | {old['seconds']:.2f} |"
        )


if __name__ == "__main__":
    main()
