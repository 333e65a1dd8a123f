"""Every route of the admin application and every refusal, over a server made of plain values."""

import asyncio
import json
import logging

import pytest

from asgireload.admin.access import AccessPolicy
from asgireload.admin.api import AdminApp
from asgireload.admin.port import TemplateSnapshot
from asgireload.errors import ControlError, TlsError
from tests.admin.admin_fakes import (
    TRACEBACK,
    Answer,
    Client,
    FakePort,
    make_certificate,
    make_failed_reload,
    make_reload,
    make_status,
    make_worker,
)

JSON = "application/json"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def port() -> FakePort:
    return FakePort()


@pytest.fixture
def client(port: FakePort) -> Client:
    return Client(AdminApp(port, AccessPolicy.for_unix()))


def assert_problem(answer: Answer, status: int, *words: str) -> None:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["title"]
    for word in words:
        assert word in answer.json["detail"]


class TestReading:
    def test_the_index_names_the_routes_for_scripts(self, client: Client) -> None:
        answer = client.get("/", accept="*/*")
        assert answer.status == 200
        assert answer.headers["content-type"] == JSON
        assert answer.json["state"] == "serving"
        assert "/status" in answer.json["read"]
        assert answer.json["command"] == ["/reload", "/tls/reload", "/scale", "/stop"]

    @pytest.mark.parametrize(
        ("accept", "is_html"),
        [
            ("", False),
            ("*/*", False),
            ("application/json", False),
            (BROWSER, True),
            ("text/html", True),
            ("TEXT/HTML;Q=0.5", True),
            ("text/html;q=0", False),
            ("text/html;q=0.4, application/json", False),
            ("text/html;q=high", False),
        ],
    )
    def test_the_index_is_html_for_those_who_prefer_it(
        self, client: Client, accept: str, is_html: bool
    ) -> None:
        answer = client.get("/", accept=accept)
        assert answer.headers["content-type"].startswith("text/html") is is_html
        assert answer.headers["vary"] == "accept"

    def test_the_page_allows_nothing_but_its_own_style(self, client: Client) -> None:
        answer = client.get("/", accept=BROWSER)
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert "<script" not in answer.text
        assert "style=" not in answer.text
        style = client.get("/style.css")
        assert style.headers["content-type"] == "text/css; charset=utf-8"
        assert "prefers-color-scheme: dark" in style.text

    def test_status_is_the_snapshot_as_it_stands(self, client: Client, port: FakePort) -> None:
        port.status_value = make_status(last_reload=make_failed_reload())
        answer = client.get("/status")
        assert answer.json["workers"][1]["slot"] == 1
        assert answer.json["last_reload"]["failure"]["traceback"] == TRACEBACK

    def test_no_answer_may_be_kept_by_a_cache(self, client: Client) -> None:
        for path in ("/", "/status", "/metrics", "/nowhere"):
            answer = client.get(path)
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"

    def test_live_answers_whatever_the_state(self, client: Client, port: FakePort) -> None:
        port.status_value = make_status(state="starting", workers_ready=0)
        assert client.get("/live").status == 200

    @pytest.mark.parametrize(
        ("state", "ready", "status"),
        [
            ("serving", 2, 200),
            ("degraded", 1, 200),
            ("degraded", 0, 503),
            ("reloading", 2, 200),
            ("reloading", 0, 503),
            ("starting", 0, 503),
            ("starting", 1, 503),
            ("stopping", 2, 503),
            ("failing", 2, 503),
        ],
    )
    def test_ready_means_that_a_worker_may_receive_traffic(
        self, client: Client, port: FakePort, state: str, ready: int, status: int
    ) -> None:
        port.status_value = make_status(state=state, workers_ready=ready)
        answer = client.get("/ready")
        assert answer.status == status
        assert answer.json["ready"] is (status == 200)
        assert answer.json["state"] == state
        if status == 503:
            assert_problem(answer, 503, "")
            assert answer.json["detail"]

    def test_metrics_come_in_the_format_the_scraper_asks_for(self, client: Client) -> None:
        plain = client.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "asgireload_workers_wanted" in plain.text
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4"
        open_metrics = client.get("/metrics", accept=accept)
        assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
        assert open_metrics.text.endswith("# EOF\n")
        odd = client.get("/metrics", accept="application/openmetrics-text;version=zero")
        assert odd.status == 200

    def test_reloads_are_listed_and_found_by_id(self, client: Client, port: FakePort) -> None:
        port.known = {4: make_failed_reload(4), 3: make_reload(3)}
        assert [reload["id"] for reload in client.get("/reloads").json["reloads"]] == [4, 3]
        assert client.get("/reloads/3").json["outcome"] == "committed"

    @pytest.mark.parametrize("name", ["9", "", "x", "-3", "+3", "3/", "٣", "3" * 5000])
    def test_an_unknown_reload_is_not_found(
        self, client: Client, port: FakePort, name: str
    ) -> None:
        port.known = {3: make_reload(3)}
        assert_problem(client.get(f"/reloads/{name}"), 404)

    @pytest.mark.parametrize(
        "path", ["/", "/style.css", "/status", "/live", "/ready", "/metrics", "/reloads"]
    )
    def test_head_has_the_head_of_get_and_no_body(self, client: Client, path: str) -> None:
        head, get = client.call("HEAD", path), client.get(path)
        assert head.body == b""
        assert head.headers == get.headers
        assert get.headers["content-length"] == str(len(get.body))

    def test_an_unknown_path_is_not_found(self, client: Client) -> None:
        for path in ("/status/", "/admin", "//", "/../status", "/RELOAD"):
            assert_problem(client.get(path), 404)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get"])
    def test_reading_takes_get_and_head_only(self, client: Client, method: str) -> None:
        for path in ("/", "/status", "/reloads/3"):
            answer = client.call(method, path)
            assert_problem(answer, 405, path)
            assert answer.headers["allow"] == "GET, HEAD"

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
    @pytest.mark.parametrize("path", ["/reload", "/reload?wait=1", "/scale?workers=3", "/stop"])
    def test_nothing_changes_but_by_post(
        self, client: Client, port: FakePort, method: str, path: str
    ) -> None:
        answer = client.call(method, path)
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"
        assert (port.origins, port.scaled, port.stops) == ([], [], 0)

    def test_a_bug_behind_the_port_is_answered_and_logged(
        self, client: Client, port: FakePort, caplog: pytest.LogCaptureFixture
    ) -> None:
        port.status = lambda: 1 / 0  # type: ignore[method-assign]
        with caplog.at_level(logging.ERROR, "asgireload.admin"):
            answer = client.get("/status")
        assert_problem(answer, 500)
        assert "division" not in answer.text
        assert "ZeroDivisionError" in caplog.text


class TestReload:
    def test_a_reload_is_taken_and_can_be_followed(self, client: Client, port: FakePort) -> None:
        answer = client.post("/reload", user_agent="curl/8.5.0")
        assert answer.status == 202
        assert answer.headers["location"] == "/reloads/5"
        assert answer.json == {
            "id": 5,
            "outcome": "running",
            "coalesced": False,
            "waits_for": "",
        }
        assert port.origins == ["curl/8.5.0 from the Unix socket"]

    def test_the_origin_holds_nothing_that_could_forge_a_log_line(self, port: FakePort) -> None:
        client = Client(AdminApp(port, AccessPolicy.for_unix()), client=("127.0.0.1", 5000))
        client.post("/reload", user_agent="a\nb\x1b[31mé" + "x" * 500)
        client.post("/reload")
        assert port.origins == [
            "ab[31m" + "x" * 58 + " from 127.0.0.1",
            "HTTP client from 127.0.0.1",
        ]

    def test_waiting_ends_with_the_committed_reload(self, client: Client, port: FakePort) -> None:
        port.known[5] = make_reload(5)
        answer = client.post("/reload?wait=1")
        assert answer.status == 200
        assert answer.headers["location"] == "/reloads/5"
        assert answer.json["outcome"] == "committed"

    @pytest.mark.parametrize(
        ("outcome", "status"),
        [("failed", 502), ("reverted", 502), ("superseded", 409), ("abandoned", 503)],
    )
    def test_waiting_for_a_reload_that_is_not_committed_is_an_error(
        self, client: Client, port: FakePort, outcome: str, status: int
    ) -> None:
        """A deploy script that uses `curl -f` must fail with its reload."""
        port.known[5] = make_failed_reload(5, outcome=outcome)
        answer = client.post("/reload?wait=true")
        assert_problem(answer, status, outcome, "ImportError: cannot import name 'router'")
        assert answer.json["reload"]["failure"]["traceback"] == TRACEBACK
        assert answer.headers["location"] == "/reloads/5"

    def test_a_failure_without_explanation_is_still_told(
        self, client: Client, port: FakePort
    ) -> None:
        port.known[5] = make_reload(5, "superseded")
        assert_problem(client.post("/reload?wait=1"), 409, "superseded).")

    def test_waiting_no_longer_than_asked(self, client: Client, port: FakePort) -> None:
        async def scenario() -> Answer:
            port.verdict = asyncio.get_running_loop().create_future()
            port.known[5] = make_reload(5, "running")
            return await client.exchange("POST", "/reload?wait=1&timeout=0.01", [b""], {})

        answer = asyncio.run(scenario())
        assert_problem(answer, 504, "goes on")
        assert answer.json["reload"]["outcome"] == "running"
        assert answer.headers["location"] == "/reloads/5"

    def test_a_client_that_leaves_ends_its_wait_and_not_the_reload(
        self, client: Client, port: FakePort
    ) -> None:
        async def scenario() -> tuple[Answer, Answer]:
            port.verdict = asyncio.get_running_loop().create_future()
            departure = asyncio.Event()
            leaving = asyncio.create_task(
                client.exchange("POST", "/reload?wait=1", [b""], {}, departure)
            )
            staying = asyncio.create_task(client.exchange("POST", "/reload?wait=1", [b""], {}))
            await port.waiting.acquire()
            await port.waiting.acquire()
            departure.set()
            left = await leaving
            assert port.waits_ended == 1
            port.verdict.set_result(make_reload(5))
            stayed = await staying
            assert len(asyncio.all_tasks()) == 1
            return left, stayed

        left, stayed = asyncio.run(scenario())
        assert left.status == 0
        assert stayed.status == 200

    def test_a_cancelled_exchange_leaves_no_task_behind(
        self, client: Client, port: FakePort
    ) -> None:
        async def scenario() -> None:
            port.verdict = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(client.exchange("POST", "/reload?wait=1", [b""], {}))
            await port.waiting.acquire()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(asyncio.all_tasks()) == 1
            assert not port.verdict.cancelled()

        asyncio.run(scenario())

    def test_a_stopping_server_takes_no_reload(self, client: Client, port: FakePort) -> None:
        port.refusal = ControlError("the server is stopping")
        assert_problem(client.post("/reload?wait=1"), 503, "the server is stopping.")

    def test_a_reload_forgotten_while_waiting_is_told(self, client: Client, port: FakePort) -> None:
        async def scenario() -> Answer:
            port.verdict = asyncio.get_running_loop().create_future()
            port.verdict.set_exception(ControlError("reload 5 is not known"))
            return await client.exchange("POST", "/reload?wait=1", [b""], {})

        assert_problem(asyncio.run(scenario()), 503, "reload 5 is not known.")

    @pytest.mark.parametrize(
        "query",
        [
            "wiat=1",
            "wait=perhaps",
            "wait",
            "wait=1&wait=0",
            "wait=1&timeout=0",
            "wait=1&timeout=-1",
            "wait=1&timeout=nan",
            "wait=1&timeout=inf",
            "wait=1&timeout=soon",
            "wait=1&timeout=99999",
            "&".join(f"a{n}=1" for n in range(40)),
        ],
    )
    def test_options_that_make_no_sense_are_refused(
        self, client: Client, port: FakePort, query: str
    ) -> None:
        assert_problem(client.post(f"/reload?{query}"), 400, "query")
        assert port.origins == []

    @pytest.mark.parametrize("path", ["/reload", "/stop"])
    def test_a_command_without_options_takes_an_empty_object(
        self, client: Client, path: str
    ) -> None:
        assert client.post(path, b"{}", content_type=JSON).status == 202
        assert client.post(path, content_type=JSON).status == 202
        assert_problem(client.post(path, b'{"a": 1}', content_type=JSON), 400, "no body")
        assert_problem(client.post(path, b"{", content_type=JSON), 400, "no body")


class TestCertificates:
    def test_they_are_read_again_and_shown(self, client: Client, port: FakePort) -> None:
        port.status_value = make_status(certificates=(make_certificate(),))
        answer = client.post("/tls/reload")
        assert answer.status == 200
        (shown,) = answer.json["certificates"]
        assert shown["names"] == ["shop.example", "*.shop.example"]
        assert len(port.origins) == 1
        assert client.get("/status").json["certificates"] == [shown]

    def test_what_does_not_fit_is_a_problem_with_its_reason(
        self, client: Client, port: FakePort
    ) -> None:
        port.refusal = TlsError("private key a.key: it is encrypted")
        assert_problem(
            client.post("/tls/reload"), 502, "a.key: it is encrypted.", "old ones stay in use"
        )

    def test_a_server_without_tls_has_none(self, client: Client, port: FakePort) -> None:
        port.refusal = ControlError("no address of this server speaks TLS")
        assert_problem(client.post("/tls/reload"), 409, "no address")

    def test_it_takes_no_options(self, client: Client, port: FakePort) -> None:
        assert_problem(client.post("/tls/reload?wait=1"), 400, "wait")
        assert_problem(client.get("/tls/reload"), 405, "POST")
        assert port.origins == []


class TestScale:
    def test_the_number_comes_in_the_body_or_in_the_query(
        self, client: Client, port: FakePort
    ) -> None:
        answer = client.post(
            "/scale", b'{"workers": 3}', content_type="application/json; charset=utf-8"
        )
        assert answer.status == 202
        assert answer.json == {"workers_wanted": 3}
        assert client.post("/scale?workers=5").status == 202
        assert port.scaled == [3, 5]

    @pytest.mark.parametrize(
        "body",
        [b'{"workers": 0}', b'{"workers": "3"}', b'{"workers": 2.5}', b"{}", b"[]", b"3", b"{",
         b'{"workers": 3, "slots": 1}', b'{"workers": true}', b"\xff"],
    )  # fmt: skip
    def test_a_body_that_makes_no_sense_is_refused(
        self, client: Client, port: FakePort, body: bytes
    ) -> None:
        assert_problem(client.post("/scale", body, content_type=JSON), 400)
        assert port.scaled == []

    @pytest.mark.parametrize("query", ["", "?workers=0", "?workers=-1", "?workers=x", "?n=3"])
    def test_a_query_that_makes_no_sense_is_refused(
        self, client: Client, port: FakePort, query: str
    ) -> None:
        assert_problem(client.post(f"/scale{query}"), 400)
        assert port.scaled == []

    def test_two_numbers_are_one_too_many(self, client: Client) -> None:
        answer = client.post("/scale?workers=3", b'{"workers": 4}', content_type=JSON)
        assert_problem(answer, 400, "not in both")

    def test_what_the_server_refuses_is_a_conflict(self, client: Client, port: FakePort) -> None:
        port.refusal = ControlError("at most 512 workers fit")
        assert_problem(client.post("/scale?workers=9000"), 409, "at most 512 workers fit.")


class TestBodies:
    def test_stop_begins_a_graceful_stop(self, client: Client, port: FakePort) -> None:
        answer = client.post("/stop")
        assert answer.status == 202
        assert port.stops == 1
        assert_problem(client.post("/stop?now=1"), 400)
        assert port.stops == 1

    @pytest.mark.parametrize(
        "content_type",
        ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "x"],
    )
    @pytest.mark.parametrize("path", ["/reload", "/scale?workers=2", "/stop"])
    def test_what_a_form_can_send_is_refused(
        self, client: Client, port: FakePort, path: str, content_type: str
    ) -> None:
        answer = client.post(path, content_type=content_type)
        assert_problem(answer, 415, "application/json")
        assert answer.headers["accept-post"] == "application/json"
        assert (port.origins, port.scaled, port.stops) == ([], [], 0)

    def test_a_body_without_a_type_is_refused(self, client: Client, port: FakePort) -> None:
        assert_problem(client.post("/scale", b'{"workers": 2}'), 415)
        assert port.scaled == []

    def test_a_body_arrives_in_any_number_of_pieces(self, client: Client, port: FakePort) -> None:
        body = b'{"workers": 3}'
        pieces = [body[index : index + 1] for index in range(len(body))]
        assert client.call("POST", "/scale", pieces, {"content-type": JSON}).status == 202
        assert port.scaled == [3]

    def test_a_body_has_a_bound(self, client: Client, port: FakePort) -> None:
        longest = b'{"workers": 3' + b" " * (64 * 1024 - 14) + b"}"
        assert client.post("/scale", longest, content_type=JSON).status == 202
        pieces = [longest, b" "]
        assert_problem(client.call("POST", "/scale", pieces, {"content-type": JSON}), 413)
        announced = client.call(
            "POST", "/scale", [b"{}"], {"content-type": JSON, "content-length": "65537"}
        )
        assert_problem(announced, 413)
        assert port.scaled == [3]

    def test_a_client_that_leaves_in_its_body_changes_nothing(self, port: FakePort) -> None:
        messages = [
            {"type": "http.request", "body": b'{"workers": 3}', "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent = []

        async def receive() -> dict[str, object]:
            return messages.pop(0)

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/scale", "query_string": b"",
            "headers": [(b"content-type", b"application/json")], "client": None,
        }  # fmt: skip
        asyncio.run(AdminApp(port, AccessPolicy.for_unix())(scope, receive, send))
        assert (sent, port.scaled) == ([], [])


class TestAccess:
    def test_a_stranger_is_refused_before_the_path_is_looked_at(
        self, port: FakePort, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = Client(
            AdminApp(port, AccessPolicy.for_tcp("127.0.0.1", "s3cret")), ("127.0.0.1", 5000)
        )
        with caplog.at_level(logging.WARNING, "asgireload.admin"):
            answer = client.get("/nowhere", host="localhost", authorization="Bearer wr0ng")
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert "s3cret" not in caplog.text
        assert "wr0ng" not in caplog.text
        assert_problem(client.post("/stop", host="evil.example"), 403, "evil.example")
        assert port.stops == 0
        assert client.get("/ready", host="localhost:9000").status == 200
        answer = client.post("/stop", host="localhost", authorization="Bearer s3cret")
        assert answer.status == 202

    def test_other_protocols_are_turned_away(self, port: FakePort) -> None:
        sent = []

        async def receive() -> dict[str, object]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        app = AdminApp(port, AccessPolicy.for_unix())
        asyncio.run(app({"type": "websocket"}, receive, send))
        assert sent == [{"type": "websocket.close", "code": 1008}]
        with pytest.raises(ValueError, match="lifespan"):
            asyncio.run(app({"type": "lifespan"}, receive, send))


class TestPage:
    def page(self, port: FakePort) -> str:
        return Client(AdminApp(port, AccessPolicy.for_unix())).get("/", accept=BROWSER).text

    def test_it_shows_the_workers_and_the_last_reload(self, port: FakePort) -> None:
        port.status_value = make_status(
            last_reload=make_reload(workers_killed=1, exchanges_cut=2, websockets_closed=3)
        )
        page = self.page(port)
        for text in ("shop.main:app", "serving generation 7", "4001", "48.0 MiB", "Last reload #3",
                     "slot 1", "drained", "1 killed, 2 exchanges cut, 3 WebSockets closed"):  # fmt: skip
            assert text in page
        assert "12\N{NARROW NO-BREAK SPACE}345" in page
        assert 'http-equiv="refresh"' not in page

    def test_everything_is_escaped(self, port: FakePort) -> None:
        nasty = '<b onload="x">&\''
        reload = make_failed_reload(origins=(nasty,))
        port.status_value = make_status(
            message=nasty,
            app=nasty,
            version=nasty,
            listeners=(nasty,),
            state=nasty,
            workers=(make_worker(state=nasty),),
            last_reload=reload,
            templates=(
                TemplateSnapshot(
                    generation=7, pid=1, state="serving", preload=False, unsafe_reasons=(nasty,)
                ),
            ),
        )
        page = self.page(port)
        assert "<b" not in page.replace("<body", "")
        assert "&lt;router&gt;" in page
        assert page.count("&lt;b onload=&quot;x&quot;&gt;&amp;&#x27;") >= 7

    def test_it_renews_itself_while_something_is_under_way(self, port: FakePort) -> None:
        port.status_value = make_status(
            state="reloading",
            generation=None,
            workers=(make_worker(pid=None, rss_bytes=None, heartbeat_age=None, state="starting"),),
            current_reload=make_reload(8, "running"),
            pending_reload=make_reload(9, "pending", duration=None, from_generation=None),
            workers_old=1,
        )
        page = self.page(port)
        assert '<meta http-equiv="refresh" content="2">' in page
        assert "Reload under way #8" in page
        assert "Waiting reload #9" in page
        assert "none yet" in page

    def test_it_tells_of_old_workers_and_of_who_waits_for_them(self, port: FakePort) -> None:
        waits_for = "4 of 8 workers of generations 5, 6 to drain, 14 s at most"
        port.status_value = make_status(
            pending_reload=make_reload(9, "pending", duration=None, waits_for=waits_for),
            last_reload=make_reload(8, workers_draining=4, workers_crashed=1, waited=14.2),
            workers_old=8,
        )
        page = self.page(port)
        assert '<meta http-equiv="refresh" content="2">' in page
        assert f"<dt>Waits for</dt><dd>{waits_for}</dd>" in page
        assert "<dt>Waited for old workers</dt><dd>14.2 s</dd>" in page
        assert "2 drained, 4 still draining, 1 crashed" in page

    def test_it_can_be_shown_before_anything_runs(self, port: FakePort) -> None:
        port.status_value = make_status(
            state="starting", generation=None, workers=(), templates=(), listeners=(), app=""
        )
        assert "No worker yet." in self.page(port)

    def test_problem_bodies_are_json_even_for_odd_text(self, client: Client) -> None:
        assert json.loads(client.get('/"\\\n').body)["status"] == 404
