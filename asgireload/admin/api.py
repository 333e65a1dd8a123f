"""The ASGI 3 application of the admin interface.

    GET  /                the state for people (HTML) and a list of links for programs (JSON)
    GET  /status          the whole state
    GET  /live            200 while the supervisor's event loop runs
    GET  /ready           200 while at least one worker serves the application, else 503
    GET  /metrics         Prometheus or OpenMetrics text
    GET  /reloads         the last reloads, newest first
    GET  /reloads/{id}    one of them
    POST /reload          202 with a ticket; with `?wait=1` the verdict (200 committed, else an error)
    POST /tls/reload      read the certificates again; 200 with those in use from now on
    POST /scale           set the number of workers
    POST /stop            202, and the server begins a graceful stop

GET requests change nothing; only POST requests do. All errors are problem details (RFC 9457). The application
reaches the server through a `ServerPort`. Access rules, the page and the metrics are in `access`, `page` and
`metrics`.
"""

import asyncio
import json
import logging
import string
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec

from asgireload.admin.access import PROBE_PATHS, AccessPolicy
from asgireload.admin.crowd import MAX_WAITS
from asgireload.admin.exchange import (
    JSON_TYPE,
    HeaderList,
    ProblemError,
    Request,
    Response,
    json_response,
    read_body,
    send_response,
)
from asgireload.admin.page import render_page
from asgireload.admin.port import ReloadSnapshot, ServerPort, StatusSnapshot
from asgireload.asgi import Receive, Scope, Send
from asgireload.errors import ControlError, TlsError

if TYPE_CHECKING:
    from asgireload.admin.metrics import MetricsPage

MAX_WAIT = 3600.0
"""Longest and default wait for a verdict, in seconds. A reload has its own deadlines; this limit bounds how long a
forgotten client can hold a connection."""

_MAX_ID_DIGITS = 18
_MAX_AGENT_CHARS = 64

_PAGE_HEADERS: HeaderList = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"vary", b"accept"),
)

logger = logging.getLogger("asgireload.admin")

_Options = TypeVar("_Options", bound=msgspec.Struct)


def _ignore(client: tuple[str, int] | None) -> None:
    pass


_Answer = Response | None
"""None when the client disconnected before there was a response."""


class _ReloadQuery(msgspec.Struct, forbid_unknown_fields=True):
    wait: bool = False
    timeout: Annotated[float, msgspec.Meta(gt=0, le=MAX_WAIT)] = MAX_WAIT


class _ScaleCommand(msgspec.Struct, forbid_unknown_fields=True):
    workers: Annotated[int, msgspec.Meta(ge=1)]


class _NoOptions(msgspec.Struct, forbid_unknown_fields=True):
    pass


class AdminApp:
    """The application of one listener: `port` is the server, `access` the access rules of the listener."""

    def __init__(self, port: ServerPort, access: AccessPolicy) -> None:
        self.on_admitted: Callable[[tuple[str, int] | None], None] = _ignore
        """Called with the address of the client when a request other than a probe has passed the access rules."""
        self._waits = 0
        self._port = port
        self._access = access
        self._metrics: MetricsPage | None = None
        self._style = files(__package__).joinpath("style.css").read_bytes()
        self._readers: dict[str, Callable[[Request], Response]] = {
            "/": self._get_index,
            "/style.css": self._get_style,
            "/status": self._get_status,
            "/live": self._get_live,
            "/ready": self._get_ready,
            "/metrics": self._get_metrics,
            "/reloads": self._get_reloads,
        }
        self._commands: dict[str, Callable[[Request, bytes, Receive], Awaitable[_Answer]]] = {
            "/reload": self._post_reload,
            "/tls/reload": self._post_tls_reload,
            "/scale": self._post_scale,
            "/stop": self._post_stop,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # Closing before accepting makes the server answer 403 (ASGI specification, WebSocket close).
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            raise ValueError(f"the admin application does not know scope type {scope['type']!r}")
        request = Request.from_scope(scope)
        client = scope.get("client")
        response = await self._answer(request, receive, tuple(client) if client else None)
        if response is not None:
            await send_response(response, send, head_only=request.method == "HEAD")

    async def _answer(
        self, request: Request, receive: Receive, client: tuple[str, int] | None
    ) -> _Answer:
        try:
            self._check_access(request)
            if request.path not in PROBE_PATHS:
                self.on_admitted(client)
            return await self._route(request, receive)
        except ProblemError as problem:
            return problem.response()
        except Exception:
            # The client must get an answer even when the port has a bug.
            logger.exception("%s %r failed", request.method, request.path)
            return ProblemError(500, "The admin surface failed; the log says more.").response()

    def _check_access(self, request: Request) -> None:
        refusal = self._access.judge(request.method, request.path, request.headers)
        if refusal is None:
            return
        logger.warning(
            "refused %s %r from %s: %s",
            request.method,
            request.path,
            _peer(request),
            refusal.detail,
        )
        raise ProblemError(refusal.status, refusal.detail, headers=refusal.headers)

    async def _route(self, request: Request, receive: Receive) -> _Answer:
        command = self._commands.get(request.path)
        if command is not None:
            _require_method(request, ("POST",))
            body = await _read_command(request, receive)
            return None if body is None else await command(request, body, receive)
        reader = self._readers.get(request.path)
        if reader is None and request.path.startswith("/reloads/"):
            reader = self._get_reload
        if reader is None:
            raise ProblemError(404, f"There is nothing at {request.path}; see / for what there is.")
        _require_method(request, ("GET", "HEAD"))
        return reader(request)

    # GET.

    def _get_index(self, request: Request) -> Response:
        status = self._port.status()
        if _prefers_html(request.header(b"accept")):
            page = render_page(status).encode("utf-8")
            return Response(200, page, b"text/html; charset=utf-8", _PAGE_HEADERS)
        index = {
            "name": "asgireload",
            "version": status.version,
            "state": status.state,
            "message": status.message,
            "read": [path for path in self._readers if path not in {"/", "/style.css"}],
            "command": list(self._commands),
        }
        return json_response(index, headers=((b"vary", b"accept"),))

    def _get_style(self, request: Request) -> Response:
        return Response(200, self._style, b"text/css; charset=utf-8")

    def _get_status(self, request: Request) -> Response:
        return json_response(self._port.status())

    def _get_live(self, request: Request) -> Response:
        # The answer itself is the check: this code runs on the supervisor's event loop.
        return json_response({"live": True})

    def _get_ready(self, request: Request) -> Response:
        status = self._port.status()
        reason = _why_not_ready(status)
        figures = {
            "ready": reason is None,
            "state": status.state,
            "workers_ready": status.workers_ready,
            "workers_wanted": status.workers_wanted,
        }
        if reason is not None:
            raise ProblemError(503, reason, members=figures)
        return json_response(figures)

    def _get_metrics(self, request: Request) -> Response:
        if self._metrics is None:
            # The metrics library takes 3 MiB and slows the start, so it is imported when metrics are asked for.
            from asgireload.admin.metrics import MetricsPage

            self._metrics = MetricsPage(self._port.metrics)
        body, content_type = self._metrics.render(request.header(b"accept"))
        return Response(200, body, content_type, ((b"vary", b"accept"),))

    def _get_reloads(self, request: Request) -> Response:
        return json_response({"reloads": self._port.reloads()})

    def _get_reload(self, request: Request) -> Response:
        text = request.path.removeprefix("/reloads/")
        is_id = 0 < len(text) <= _MAX_ID_DIGITS and set(text) <= set(string.digits)
        snapshot = self._port.reload(int(text)) if is_id else None
        if snapshot is None:
            raise ProblemError(404, "No such reload is remembered; see /reloads.")
        return json_response(snapshot)

    # POST.

    async def _post_reload(self, request: Request, body: bytes, receive: Receive) -> _Answer:
        options = _convert_query(request, _ReloadQuery)
        _require_empty(body)
        if options.wait and self._waits >= MAX_WAITS:
            raise ProblemError(
                503, f"{MAX_WAITS} requests wait for verdicts; ask without `wait`, or later."
            )
        try:
            ticket = self._port.request_reload(_origin(request))
        except ControlError as error:
            raise ProblemError(503, _sentence(error)) from error
        location = (b"location", f"/reloads/{ticket.id}".encode("ascii"))
        if not options.wait:
            return json_response(ticket, 202, (location,))
        try:
            verdict = await self._wait_verdict(ticket.id, options.timeout, receive)
        except ControlError as error:
            raise ProblemError(503, _sentence(error), headers=(location,)) from error
        except TimeoutError as error:
            raise ProblemError(
                504,
                f"Reload {ticket.id} has no verdict after {options.timeout:g} s; it goes on.",
                headers=(location,),
                members={"reload": self._port.reload(ticket.id)},
            ) from error
        return None if verdict is None else _verdict_response(verdict, location)

    async def _wait_verdict(
        self, reload_id: int, timeout: float, receive: Receive
    ) -> ReloadSnapshot | None:
        """Return the verdict, or None when the client disconnected first. Raise TimeoutError, ControlError.

        A client that disconnects or times out does not end the reload, which others may have asked for, too.
        """
        self._waits += 1
        verdict = asyncio.ensure_future(self._port.wait_reload(reload_id))
        # The body has been read, so the only message that can still come is http.disconnect.
        departure = asyncio.ensure_future(receive())
        try:
            done, _ = await asyncio.wait(
                (verdict, departure), timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if verdict in done:
                return verdict.result()
            if not done:
                raise TimeoutError
            logger.info("a client stopped waiting for reload %d, which goes on", reload_id)
            return None
        finally:
            self._waits -= 1
            verdict.cancel()
            departure.cancel()
            # Collect both, so that neither outlives the exchange nor logs "exception was never retrieved".
            await asyncio.gather(verdict, departure, return_exceptions=True)

    async def _post_tls_reload(self, request: Request, body: bytes, receive: Receive) -> _Answer:
        _convert_query(request, _NoOptions)
        _require_empty(body)
        try:
            certificates = self._port.reload_certificates(_origin(request))
        except ControlError as error:
            raise ProblemError(409, _sentence(error)) from error
        except TlsError as error:
            # As with new code that cannot serve, the fault lies behind this server (502).
            raise ProblemError(
                502,
                f"The new certificates cannot be used, so the old ones stay in use: {_sentence(error)}",
            ) from error
        return json_response({"certificates": certificates})

    async def _post_scale(self, request: Request, body: bytes, receive: Receive) -> _Answer:
        if body and request.query_string:
            raise ProblemError(400, "Give `workers` in the query or in the body, not in both.")
        if body:
            try:
                command = msgspec.json.decode(body, type=_ScaleCommand)
            except msgspec.DecodeError as error:
                raise ProblemError(400, f"The body is not valid: {error}.") from error
        else:
            command = _convert_query(request, _ScaleCommand)
        try:
            self._port.scale(command.workers)
        except ControlError as error:
            raise ProblemError(409, _sentence(error)) from error
        logger.info("scale to %d workers, asked by %s", command.workers, _origin(request))
        return json_response({"workers_wanted": command.workers}, 202)

    async def _post_stop(self, request: Request, body: bytes, receive: Receive) -> _Answer:
        _convert_query(request, _NoOptions)
        _require_empty(body)
        logger.info("stop, asked by %s", _origin(request))
        self._port.stop()
        return json_response({"state": "stopping"}, 202)


async def _read_command(request: Request, receive: Receive) -> bytes | None:
    """Return the body of a POST, or None when the client disconnected. Raise ProblemError.

    Only JSON is accepted. Types that a page can send to another site without a CORS preflight (forms, plain text, a
    body without a type) are refused with 415: this is the last defence against request forgery.
    """
    content_type = request.header(b"content-type").partition(";")[0].strip().lower()
    if content_type not in {"", "application/json"}:
        raise _not_json(content_type)
    body = await read_body(request, receive)
    if body and not content_type:
        raise _not_json("no type at all")
    return body


def _not_json(content_type: str) -> ProblemError:
    return ProblemError(
        415,
        f"A body must be application/json, not {content_type}; "
        "with curl, add -H 'Content-Type: application/json' or send no body (-X POST).",
        headers=((b"accept-post", JSON_TYPE),),
    )


def _require_method(request: Request, allowed: tuple[str, ...]) -> None:
    if request.method not in allowed:
        raise ProblemError(
            405,
            f"{request.path} takes {' and '.join(allowed)} only.",
            headers=((b"allow", ", ".join(allowed).encode("ascii")),),
        )


def _require_empty(body: bytes) -> None:
    """Raise ProblemError (400) unless the body is empty or `{}`, which some clients always send."""
    try:
        is_empty = not body or json.loads(body) == {}
    except ValueError:
        is_empty = False
    if not is_empty:
        raise ProblemError(400, "This command takes no body; its options go into the query.")


def _convert_query(request: Request, kind: type[_Options]) -> _Options:
    """Return the query as a `kind`. Raise ProblemError (400), also for unknown names: `?wiat=1` must not look like
    a committed reload."""
    try:
        return msgspec.convert(request.query(), kind, strict=False)
    except msgspec.ValidationError as error:
        raise ProblemError(400, f"The query is not valid: {error}.") from error


def _verdict_response(verdict: ReloadSnapshot, location: tuple[bytes, bytes]) -> Response:
    """Return 200 for a committed reload and an error for any other, so that `curl -f` and deploy scripts fail.

    The status is 502 when the new code cannot serve: the fault lies behind this server, not in it.
    """
    if verdict.outcome == "committed":
        return json_response(verdict, headers=(location,))
    status = {"superseded": 409, "abandoned": 503}.get(verdict.outcome, 502)
    detail = f"Reload {verdict.id} was not committed ({verdict.outcome})."
    if verdict.failure is not None:
        detail = f"{detail[:-1]}: {verdict.failure.summary}"
    members = {"reload": verdict}
    return ProblemError(status, detail, headers=(location,), members=members).response()


def _why_not_ready(status: StatusSnapshot) -> str | None:
    if status.state in {"starting", "stopping"}:
        return f"The server is {status.state}."
    if status.state == "failing":
        return "The application cannot be loaded: every request is answered with an error page."
    if status.workers_ready < 1:
        return f"No worker is ready (0 of {status.workers_wanted})."
    return None


def _prefers_html(accept: str) -> bool:
    """Return whether Accept names text/html with a weight of at least that of JSON; `*/*` (curl, scripts) means
    JSON."""
    weights = {}
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        weights[media_type] = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weights[media_type] = float(parameter[2:])
                except ValueError:
                    weights[media_type] = 0.0
    html = weights.get("text/html", 0.0)
    return html > 0 and html >= weights.get("application/json", 0.0)


def _peer(request: Request) -> str:
    return "the Unix socket" if request.client is None else request.client


def _origin(request: Request) -> str:
    """Return the user agent and address of the client, such as `curl/8.5.0 from 127.0.0.1`."""
    agent = "".join(
        char for char in request.header(b"user-agent") if char.isascii() and char.isprintable()
    )
    return f"{agent[:_MAX_AGENT_CHARS] or 'HTTP client'} from {_peer(request)}"


def _sentence(error: Exception) -> str:
    text = str(error)
    return text if text.endswith(".") else f"{text}."
