"""A server made of plain values, and a client that speaks ASGI to the admin application."""

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any

from asgireload.admin.port import (
    CertificateSnapshot,
    MetricsSnapshot,
    ReloadSnapshot,
    ReloadTicket,
    SlotCounters,
    SlotSteps,
    StatusSnapshot,
    Step,
    TemplateSnapshot,
    WorkerSnapshot,
)
from asgireload.errors import ControlError, TlsError
from asgireload.failures import Failure
from asgireload.ipc.scoreboard import FIELD_COUNT, Field
from asgireload.net.unix import SocketFile

NOW = 1_800_000_000.0

TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/main.py", line 3, in <module>
    from shop.views import <router>
ImportError: cannot import name 'router' from 'shop.views'
"""


def make_worker(slot: int = 0, **changes: Any) -> WorkerSnapshot:
    values: dict[str, Any] = {
        "slot": slot,
        "generation": 7,
        "pid": 4000 + slot,
        "state": "ready",
        "ready_at": NOW - 3600,
        "age": 3601.0,
        "heartbeat_age": 0.4,
        "connections": 12,
        "websockets": 2,
        "exchanges": 1,
        "requests_total": 12345,
        "rss_bytes": 48 * 1024**2,
    }
    return WorkerSnapshot(**values | changes)


def make_reload(reload_id: int = 3, outcome: str = "committed", **changes: Any) -> ReloadSnapshot:
    steps = (
        Step(name="fork", seconds=0.21, generation=7),
        Step(name="ready", seconds=0.34, generation=7),
        Step(name="retire", seconds=1.35, generation=6),
        Step(name="drained", seconds=1.62, generation=6),
    )
    is_over = outcome not in {"running", "pending"}
    values: dict[str, Any] = {
        "id": reload_id,
        "outcome": outcome,
        "phase": "done" if is_over else "rolling",
        "origins": ("signal USR1",),
        "from_generation": 6,
        "to_generation": 7,
        "requested_at": NOW - 120,
        "started_at": NOW - 120,
        "ended_at": NOW - 118 if is_over else None,
        "duration": 1.62,
        "serving_generation": 7 if is_over else None,
        "uniform": True,
        "failure": None,
        "slots": (SlotSteps(slot=0, steps=steps), SlotSteps(slot=1, steps=steps)),
        "workers_drained": 2,
    }
    return ReloadSnapshot(**values | changes)


def make_failed_reload(
    reload_id: int = 4, outcome: str = "failed", **changes: Any
) -> ReloadSnapshot:
    values: dict[str, Any] = {
        "from_generation": 7,
        "to_generation": 8,
        "slots": (),
        "workers_drained": 0,
        "failure": Failure(
            stage="import",
            summary="ImportError: cannot import name 'router' from 'shop.views'",
            traceback=TRACEBACK,
        ),
    }
    return make_reload(reload_id, outcome, **values | changes)


def make_certificate(**changes: Any) -> CertificateSnapshot:
    values: dict[str, Any] = {
        "certfile": "shop.pem",
        "subject": "CN=shop.example",
        "names": ("shop.example", "*.shop.example"),
        "not_before": NOW - 86400,
        "not_after": NOW + 86400,
        "loaded_at": NOW - 60,
    }
    return CertificateSnapshot(**values | changes)


def make_status(**changes: Any) -> StatusSnapshot:
    values: dict[str, Any] = {
        "version": "0.1.0",
        "pid": 3999,
        "state": "serving",
        "message": "serving generation 7",
        "app": "shop.main:app",
        "started_at": NOW - 7200,
        "uptime": 7200.0,
        "generation": 7,
        "workers_wanted": 2,
        "workers_ready": 2,
        "workers_old": 0,
        "listeners": ("http://127.0.0.1:8000",),
        "accept": "shared",
        "restarts_total": 1,
        "reloads_total": 3,
        "workers": (make_worker(0), make_worker(1)),
        "templates": (
            TemplateSnapshot(
                generation=7, pid=3998, state="serving", preload=True, unsafe_reasons=()
            ),
        ),
        "current_reload": None,
        "pending_reload": None,
        "last_reload": None,
    }
    return StatusSnapshot(**values | changes)


def make_counters(slot: int = 0, generation: int = 7, **fields: int) -> SlotCounters:
    values = [0] * FIELD_COUNT
    for name, value in fields.items():
        values[Field[name]] = value
    return SlotCounters(slot=slot, generation=generation, values=tuple(values))


def close_unix(sock: socket.socket) -> None:
    """End a socket of `open_admin_unix`, its file included."""
    SocketFile.of(sock).remove()
    sock.close()


class FakePort:
    """A ServerPort over values that a test may replace; it notes what it was asked for."""

    def __init__(self, status: StatusSnapshot | None = None) -> None:
        self.status_value = status or make_status()
        self.counters: tuple[SlotCounters, ...] = ()
        self.reload_outcomes: dict[str, int] = {}
        self.worker_exits: dict[str, int] = {}
        self.known: dict[int, ReloadSnapshot] = {}
        self.refusal: ControlError | TlsError | None = None
        self.ticket = ReloadTicket(id=5, outcome="running", coalesced=False)
        self.verdict: asyncio.Future[ReloadSnapshot] | None = None
        self.waiting = asyncio.Semaphore(0)
        self.origins: list[str] = []
        self.scaled: list[int] = []
        self.stops = 0
        self.waits_ended = 0

    def status(self) -> StatusSnapshot:
        return self.status_value

    def metrics(self) -> MetricsSnapshot:
        return MetricsSnapshot(
            status=self.status_value,
            counters=self.counters,
            reload_outcomes=self.reload_outcomes,
            worker_exits=self.worker_exits,
        )

    def reloads(self) -> tuple[ReloadSnapshot, ...]:
        return tuple(self.known.values())

    def reload(self, reload_id: int) -> ReloadSnapshot | None:
        return self.known.get(reload_id)

    def request_reload(self, origin: str) -> ReloadTicket:
        if self.refusal is not None:
            raise self.refusal
        self.origins.append(origin)
        return self.ticket

    async def wait_reload(self, reload_id: int) -> ReloadSnapshot:
        self.waiting.release()
        try:
            if self.verdict is not None:
                return await asyncio.shield(self.verdict)
            return self.known[reload_id]
        finally:
            self.waits_ended += 1

    def scale(self, workers: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.scaled.append(workers)

    def reload_certificates(self, origin: str) -> tuple[CertificateSnapshot, ...]:
        if self.refusal is not None:
            raise self.refusal
        self.origins.append(origin)
        return self.status_value.certificates

    def stop(self) -> None:
        self.stops += 1


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """Calls an ASGI application with hand-made messages, in an event loop of its own."""

    def __init__(self, app: Any, client: tuple[str, int] | None = None) -> None:
        self.app = app
        self.client = client

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: bytes = b"", **headers: str) -> Answer:
        return self.call("POST", path, [body], headers=headers)

    def call(
        self,
        method: str,
        path: str,
        body: list[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        return asyncio.run(self.exchange(method, path, body or [b""], headers or {}))

    async def exchange(
        self,
        method: str,
        path: str,
        body: list[bytes],
        headers: dict[str, str],
        departure: asyncio.Event | None = None,
    ) -> Answer:
        """Run one exchange; the client hangs up once `departure` is set, or never."""
        target, _, query = path.partition("?")
        chunks = list(body)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if chunks:
                chunk = chunks.pop(0)
                return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
            await (departure or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": target,
            "query_string": query.encode(),
            "headers": [
                (name.replace("_", "-").lower().encode(), value.encode("latin-1"))
                for name, value in headers.items()
            ],
            "client": self.client,
        }
        await self.app(scope, receive, send)
        if not sent:
            return Answer(0, {}, b"")
        start, *rest = sent
        assert start["type"] == "http.response.start"
        assert [message["type"] for message in rest] == ["http.response.body"]
        names = [name for name, _ in start["headers"]]
        assert len(set(names)) == len(names)
        return Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            rest[0]["body"],
        )
