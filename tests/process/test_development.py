"""`--reload`: from a saved file to the next answer, in a real tree of processes."""

import http.client
import json
import os
import signal
import socket
import time

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

SYNTAX_ERROR = "\ndef (\n"
SLOW_IMPORT = "\nimport time\nprint('importing', VERSION, flush=True)\ntime.sleep(1.5)\n"


def develop(directory, *options, workers=1, **more):
    return Server(directory, "--reload", *options, workers=workers, **more)


OPENED = []


@pytest.fixture(autouse=True)
def _close_connections():
    yield
    while OPENED:
        OPENED.pop().close()


class Kept:
    """A kept connection of a browser."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        OPENED.append(self.connection)

    def ask(self, path="/"):
        self.connection.request("GET", path)

    def answer(self):
        """Return status, the stale header and the body."""
        response = self.connection.getresponse()
        return response.status, response.getheader("asgireload-stale"), response.read().decode()

    def get(self, path="/"):
        self.ask(path)
        return self.answer()


def wait_version(server, version):
    wait_until(lambda: server.version() == version, what=f"version {version}")


def wait_count(server, text, count):
    wait_until(lambda: server.log.count(text) >= count, what=f"{count} times {text!r}")


def wait_base(server, count=1):
    wait_until(lambda: len(titled(server, "asgireload library base")) == count, what="the base")
    server.wait_log("kept in memory")


def titled(server, title):
    """Return the processes of the tree whose title begins so."""
    found = []
    for pid in server.processes():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read().decode().startswith(title):
                    found.append(pid)
        except OSError:
            continue
    return found


# --- what a save does -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_saves_are_served_in_turn_to_new_and_kept_connections(tmp_path, workers):
    write_version(tmp_path, 1)
    with develop(tmp_path, workers=workers) as server:
        kept = Kept(server)
        assert kept.get()[2].startswith("1 ")
        for version in range(2, 8):
            write_version(tmp_path, version)
            wait_version(server, version)
            status, stale, body = kept.get()
            assert (status, stale) == (200, None)
            assert body.startswith(f"{version} ")


@pytest.mark.parametrize("workers", [1, 2])
def test_requests_that_come_after_a_save_wait_for_the_new_code(tmp_path, workers):
    """Kept connections and new ones: what is asked while the new code starts is answered by it."""
    write_version(tmp_path, 1)
    with develop(tmp_path, "--log-level", "debug", workers=workers) as server:
        kept = [Kept(server) for _ in range(8)]
        assert all(client.get()[2].startswith("1 ") for client in kept)
        write_version(tmp_path, 2, extra=SLOW_IMPORT)
        wait_count(server, "New requests wait", workers)
        new = [Kept(server) for _ in range(8)]
        for client in kept + new:
            client.ask()
        for client in kept + new:
            assert client.answer()[2].startswith("2 ")


def test_a_request_in_flight_is_finished_by_the_code_that_began_it(tmp_path):
    extra = (
        "\nasync def slower(scope, receive, send):\n    print('request begun', flush=True)\n"
        "    await asyncio.sleep(1)\n    await version(scope, receive, send)\n"
        "PATHS['/slow'] = slower\n"
    )
    write_version(tmp_path, 1, extra=extra)
    with develop(tmp_path) as server:
        slow = Kept(server)
        slow.ask("/slow")
        server.wait_log("request begun")
        write_version(tmp_path, 2)
        wait_version(server, 2)
        assert slow.answer()[2].startswith("1 ")
        assert slow.get()[2].startswith("2 ")


def test_when_the_new_code_takes_too_long_the_old_one_answers_and_says_so(tmp_path):
    write_version(tmp_path, 1)
    with develop(tmp_path, "--reload-hold-timeout", "0.3") as server:
        kept = Kept(server)
        kept.get()
        write_version(
            tmp_path, 2, extra="\nimport time\nprint('hanging', flush=True)\ntime.sleep(60)\n"
        )
        server.wait_log("hanging")
        for client in (kept, Kept(server)):
            status, stale, body = client.get()
            assert (status, stale) == (200, "1")
            assert body.startswith("1 ")
        write_version(tmp_path, 3)
        wait_version(server, 3)
        # On a busy machine it is the old worker's for a moment more, and that has no patience left.
        wait_until(lambda: kept.get()[1] is None, what="new code on a kept connection")


def test_open_streams_and_websockets_do_not_hold_a_save_up(tmp_path):
    write_version(tmp_path, 1)
    with develop(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port)) as page:
        page.settimeout(20)
        page.sendall(b"GET /events HTTP/1.1\r\nhost: test\r\n\r\n")
        assert page.recv(1000)
        websocket = socket.create_connection(("127.0.0.1", server.port))
        websocket.settimeout(20)
        websocket.sendall(
            b"GET /ws HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert b" 101 " in websocket.recv(1000)
        write_version(tmp_path, 2)
        wait_version(server, 2)
        close = websocket.recv(1000)
        assert close[:4] == b"\x88" + close[1:2] + (1012).to_bytes(2, "big")
        websocket.close()
        stream = b""
        while not stream.endswith(b"0\r\n\r\n"):
            piece = page.recv(1000)
            assert piece
            stream += piece
        assert b"retry: 50" in stream


# --- never the wrong code -------------------------------------------------------------------------


def test_two_saves_of_one_size_within_a_second_serve_the_second(tmp_path):
    """Bytecode is keyed by whole seconds and size."""
    write_version(tmp_path, 10)
    environment = {"PYTHONDONTWRITEBYTECODE": ""}
    with develop(tmp_path, env=environment) as server:
        for version in range(11, 31):
            write_version(tmp_path, version)
            wait_version(server, version)


def test_a_file_moved_into_place_with_its_old_time_is_served(tmp_path):
    """The same size, and a time of change that was given to it before."""
    environment = {"PYTHONDONTWRITEBYTECODE": ""}
    package = tmp_path / "shop"
    package.mkdir()
    for name, value in (("__init__.py", ""), ("part.py", "P = 1\n"), ("part.txt", "P = 2\n")):
        (package / name).write_text(value)
        os.utime(package / name, (1_700_000_000, 1_700_000_000))
    write_version(tmp_path, 1, extra="\nfrom shop.part import P\nVERSION = P\n")
    with develop(tmp_path, env=environment) as server:
        assert server.version() == 1
        (package / "part.txt").rename(package / "part.py")
        wait_version(server, 2)


def test_a_superseded_import_is_killed_before_the_next_one_begins(tmp_path):
    """A second save during a start makes exactly one more, and the first one's import
    neither catches a signal nor stays behind."""
    witness = (
        "\nimport signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *a: print('caught', VERSION, flush=True))\n"
        "print('importing', VERSION, flush=True)\n"
        "try:\n    time.sleep(20)\nfinally:\n    print('unwound', VERSION, flush=True)\n"
    )
    write_version(tmp_path, 1)
    with develop(tmp_path) as server:
        first = server.status()["last_reload"]["id"]
        write_version(tmp_path, 2, extra=witness)
        server.wait_log("importing 2")
        write_version(tmp_path, 3)
        wait_version(server, 3)
        wait_until(lambda: server.status()["current_reload"] is None)
        assert server.status()["last_reload"]["id"] == first + 2
        assert "caught" not in server.log
        assert "unwound" not in server.log
        assert "superseded" in server.log
        assert len(titled(server, "asgireload worker")) == 1


def test_a_large_burst_of_changes_is_one_reload_after_an_early_try(tmp_path):
    """A checkout of 2,000 files, of which the application's comes last."""
    write_version(tmp_path, 1)
    with develop(tmp_path, "--reload-delay", "3") as server:
        before = server.status()["last_reload"]["id"]
        for number in range(2000):
            (tmp_path / f"module_{number}.py").write_text("x = 1\n")
        write_version(tmp_path, 333)
        wait_version(server, 333)
        wait_until(lambda: server.status()["current_reload"] is None)
        assert server.status()["last_reload"]["id"] - before <= 2


# --- layers ---------------------------------------------------------------------------------------


def make_package(directory, *, before="", after=""):
    """A package in which `first` is imported before `leaf`, and `last` behind it."""
    package = directory / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text(f"ORDER = ['first']\n{before}")
    (package / "leaf.py").write_text("from shop.first import ORDER\nORDER.append('leaf 1')\n")
    (package / "last.py").write_text(f"from shop.first import ORDER\nORDER.append('last')\n{after}")
    (directory / "app.py").write_text(
        "import json\nfrom shop.first import ORDER\nimport shop.leaf\nimport shop.last\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        headers = [(b'content-type', b'text/plain')]\n"
        "        await send({'type': 'http.response.start', 'status': 200, 'headers': headers})\n"
        "        await send({'type': 'http.response.body', 'body': ' '.join(ORDER).encode()})\n"
    )
    return package


def save_leaf(package, text):
    (package / "leaf.py").write_text(f"from shop.first import ORDER\nORDER.append('leaf {text}')\n")


def wait_body(server, body):
    # What is asked before the change is seen may still be answered with a mistake.
    wait_until(lambda: Kept(server).get()[2] == body, what=body)


def test_a_save_reads_no_more_than_what_comes_behind_it(tmp_path):
    """The first save is loaded from the base, which holds libraries, and leaves a checkpoint; the next ones go
    on from there. Modules run in the order in which they always do."""
    package = make_package(tmp_path, before="print('first runs', flush=True)\n")
    with develop(tmp_path) as server:
        wait_base(server)
        save_leaf(package, "2")
        wait_body(server, "first leaf 2 last")
        server.wait_log("from library base")
        wait_until(lambda: titled(server, "asgireload checkpoint"))
        runs = server.log.count("first runs")
        for text in ("3", "4", "5"):
            save_leaf(package, text)
            wait_body(server, f"first leaf {text} last")
        assert server.log.count("first runs") == runs
        server.wait_log("read shop.leaf, shop.last in")
        server.wait_log("from checkpoint before shop.leaf")
        (package / "last.py").write_text("from shop.first import ORDER\nORDER.append('end')\n")
        wait_body(server, "first leaf 5 end")
        assert server.log.count("first runs") == runs


def test_what_a_checkpoint_has_read_is_never_served_outdated(tmp_path):
    package = make_package(tmp_path)
    with develop(tmp_path) as server:
        wait_base(server)
        for text in ("2", "3"):
            save_leaf(package, text)
            wait_body(server, f"first leaf {text} last")
        server.wait_log("from checkpoint")
        (package / "first.py").write_text("ORDER = ['FIRST']\n")
        wait_body(server, "FIRST leaf 3 last")
        (package / "data.py").write_text("X = 1\n")
        save_leaf(package, "4")
        wait_body(server, "FIRST leaf 4 last")
        (package / "leaf.py").unlink()
        wait_until(lambda: Kept(server).get()[0] == 500)
        save_leaf(package, "5")
        wait_body(server, "FIRST leaf 5 last")


def test_a_mistake_in_the_edited_module_is_shown_and_repaired_from_the_checkpoint(tmp_path):
    package = make_package(tmp_path)
    with develop(tmp_path) as server:
        wait_base(server)
        for text in ("2", "3"):
            save_leaf(package, text)
            wait_body(server, f"first leaf {text} last")
        for text in ("4", "5"):
            (package / "leaf.py").write_text(f"raise RuntimeError('mistake {text}')\n")
            wait_until(lambda text=text: f"mistake {text}" in Kept(server).get()[2])
            save_leaf(package, text)
            wait_body(server, f"first leaf {text} last")


def test_a_start_remembers_the_libraries_of_the_one_before(tmp_path):
    write_version(tmp_path, 1)
    with develop(tmp_path) as server:
        wait_base(server)
    with develop(tmp_path) as server:
        log = server.log
        assert log.index("kept in memory") < log.index("running on")
        assert server.version() == 1


def make_library(directory, name, text):
    library = directory / "lib" / "site-packages"
    library.mkdir(parents=True, exist_ok=True)
    (library / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(library), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path.rstrip(os.pathsep)}


def test_a_library_that_starts_a_thread_is_named_and_left_out(tmp_path):
    environment = make_library(
        tmp_path,
        "threading_thing",
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
    )
    (tmp_path / "app").mkdir()
    write_version(tmp_path / "app", 1, extra="\nimport threading_thing, decimal, fractions\n")
    with develop(tmp_path / "app", "--preload", env=environment) as server:
        server.wait_log("threading_thing cannot be kept in memory")
        wait_base(server)
        write_version(tmp_path / "app", 2, extra="\nimport threading_thing, decimal, fractions\n")
        wait_version(server, 2)
        server.wait_log("from library base")


def test_a_library_that_changes_is_read_anew_at_the_next_save(tmp_path):
    environment = make_library(tmp_path, "thing", "NUMBER = 10\n")
    (tmp_path / "app").mkdir()
    extra = "\nimport thing\nVERSION += thing.NUMBER\n"
    write_version(tmp_path / "app", 1, extra=extra)
    with develop(tmp_path / "app", "--log-level", "debug", env=environment) as server:
        wait_base(server)
        assert server.version() == 11
        make_library(tmp_path, "thing", "NUMBER = 200\n")
        wait_until(lambda: not titled(server, "asgireload library base"))
        write_version(tmp_path / "app", 2, extra=extra)
        wait_version(server, 202)
        wait_count(server, "kept in memory", 2)
        write_version(tmp_path / "app", 3, extra=extra)
        wait_version(server, 203)


def test_variables_that_libraries_read_are_those_that_the_application_sets(tmp_path):
    """`OMP_NUM_THREADS` and the like count when a library is imported, which may be before their time."""
    environment = make_library(
        tmp_path, "reader", "import os\nSEEN = int(os.environ.get('READ_BY_LIBRARY', '0'))\n"
    )
    (tmp_path / "app").mkdir()

    def save(value):
        extra = (
            f"\nimport os\nos.environ['READ_BY_LIBRARY'] = '{value}'\n"
            "import reader\nVERSION = reader.SEEN\n"
        )
        write_version(tmp_path / "app", 1, extra=extra)

    save(5)
    with develop(tmp_path / "app", env=environment) as server:
        assert server.version() == 5
        wait_base(server)
        save(55)
        wait_version(server, 55)
        server.wait_log("READ_BY_LIBRARY")
        wait_count(server, "asgireload", 1)
        save(56)
        wait_version(server, 56)


def test_a_module_that_takes_the_place_of_a_library_is_found(tmp_path):
    environment = make_library(tmp_path, "thing", "NUMBER = 10\n")
    (tmp_path / "app").mkdir()
    extra = "\nimport thing\nVERSION += thing.NUMBER\n"
    write_version(tmp_path / "app", 1, extra=extra)
    with develop(tmp_path / "app", env=environment) as server:
        wait_base(server)
        assert server.version() == 11
        (tmp_path / "app" / "thing.py").write_text("NUMBER = 3000\n")
        wait_version(server, 3001)
        write_version(tmp_path / "app", 2, extra=extra)
        wait_version(server, 3002)
        (tmp_path / "app" / "thing.py").unlink()
        wait_version(server, 12)


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES = {
    "syntax error": (SYNTAX_ERROR, "SyntaxError"),
    "exception": ("\nraise RuntimeError('typo')\n", "RuntimeError: typo"),
    "missing module": ("\nimport no_such_module\n", "No module named 'no_such_module'"),
    "missing attribute": ("\ndel app\n", 'Attribute "app" not found'),
    "sys.exit": ("\nimport sys; sys.exit(4)\n", "sys.exit(4)"),
    "os._exit": ("\nimport os; os._exit(3)\n", "exit status 3"),
    "segfault": ("\nimport ctypes; ctypes.string_at(0)\n", "SIGSEGV"),
    "endless import": ("\nimport time\nwhile True: time.sleep(1)\n", "not imported within"),
    "lifespan fails": (
        "\nasync def lifespan(receive, send):\n    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n",
        "no database",
    ),
    "lifespan exits": ("\nasync def lifespan(*_):\n    import os; os._exit(5)\n", "exit status 5"),
}


@pytest.mark.parametrize(("extra", "text"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_served_once_said_and_repaired_by_the_next_save(tmp_path, extra, text):
    write_version(tmp_path, 1)
    with develop(tmp_path, "--boot-timeout", "8") as server:
        kept = Kept(server)
        assert kept.get()[2].startswith("1 ")
        write_version(tmp_path, 2, extra=extra)
        server.wait_log("every request is answered with an error page")
        status, stale, body = kept.get()
        assert (status, stale) == (500, None)
        assert text in body
        assert server.log.count(" failed after ") == 1
        write_version(tmp_path, 3)
        wait_until(lambda: kept.get()[2].startswith("3 "))


def test_a_mistake_at_the_first_start_is_served_and_repaired(tmp_path):
    write_version(tmp_path, 1, extra=SYNTAX_ERROR)
    with develop(tmp_path) as server:
        status, _, body = Kept(server).get()
        assert status == 500
        assert "SyntaxError" in body
        write_version(tmp_path, 2)
        wait_until(lambda: Kept(server).get()[2].startswith("2 "))


def ask_as(server, accept, path="/"):
    """Return status, type and body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("GET", path, headers={"accept": accept})
        response = connection.getresponse()
        return response.status, response.getheader("content-type"), response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_is_a_page_for_people_json_for_programs_and_text_for_others(tmp_path, workers):
    write_version(tmp_path, 1)
    with develop(tmp_path, workers=workers) as server:
        server.wait_log("Watching")
        write_version(tmp_path, 2, extra="\nclass Odd(Exception): pass\nraise Odd('<script>')\n")
        server.wait_log("every request is answered with an error page")
        status, kind, page = ask_as(server, "text/html,*/*;q=0.8")
        assert (status, kind) == (500, "text/html; charset=utf-8")
        assert "&lt;script&gt;" in page
        assert "Odd: <script>" not in page
        assert "raise Odd(" in page
        status, kind, body = ask_as(server, "application/json")
        assert (status, kind) == (500, "application/json")
        assert "Odd: <script>" in json.loads(body)["error"]["summary"]
        status, kind, body = ask_as(server, "*/*")
        assert (status, kind) == (500, "text/plain; charset=utf-8")
        assert "Traceback (most recent call last)" in body


@pytest.mark.parametrize("workers", [1, 2])
def test_an_open_page_with_a_mistake_hears_of_the_next_one_and_of_the_repair(tmp_path, workers):
    """The page listens to a stream, which ends when something else is served; then it looks, and loads itself."""
    write_version(tmp_path, 1)

    def listen():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        OPENED.append(connection)
        connection.request("GET", "/.asgireload/reload")
        return connection.getresponse()

    def state_of(stream):
        lines = iter(stream.readline, b"")
        return next(line for line in lines if line.startswith(b"data: "))

    with develop(tmp_path, workers=workers) as server:
        server.wait_log("Watching")
        write_version(tmp_path, 2, extra="\nraise RuntimeError('first')\n")
        wait_until(lambda: "first" in ask_as(server, "text/html")[2])
        stream = listen()
        first = state_of(stream)
        write_version(tmp_path, 3, extra="\nraise RuntimeError('second')\n")
        wait_until(lambda: "second" in ask_as(server, "text/html")[2])
        assert not stream.read().strip().endswith(first)
        stream = listen()
        assert state_of(stream) != first
        write_version(tmp_path, 4)
        wait_until(lambda: ask_as(server, "text/html")[0] == 200)
        stream.read()
        assert server.log.count(" failed after ") == 2


def test_code_that_dies_at_each_request_is_replaced_by_a_page(tmp_path):
    write_version(tmp_path, 1, extra="\nasync def version(*_):\n    import os; os._exit(9)\n")
    with develop(tmp_path) as server:

        def status():
            try:
                return Kept(server).get()
            except (OSError, http.client.HTTPException):
                return 0, None, ""

        wait_until(lambda: status()[0] == 500)
        assert "exit status 9" in status()[2]
        write_version(tmp_path, 2)
        wait_until(lambda: status()[2].startswith("2 "))


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path, number):
    """Library base, checkpoint, standby template, template and worker go with the supervisor, however it ends."""
    package = make_package(tmp_path)
    with develop(tmp_path) as server:
        wait_base(server)
        for text in ("2", "3"):
            save_leaf(package, text)
            wait_body(server, f"first leaf {text} last")
        wait_until(lambda: titled(server, "asgireload checkpoint"))
        wait_until(lambda: titled(server, "asgireload standby"))
        if number is signal.SIGKILL:
            server.kill(number)
            server.process.wait(10)
        else:
            assert server.stop(number, timeout=10) == 0
        assert not server.left_behind()


@pytest.mark.parametrize("moment", ["importing", "saved"])
def test_ctrl_c_is_acted_on_in_the_middle_of_a_load(tmp_path, moment):
    write_version(tmp_path, 1)
    with develop(tmp_path) as server:
        write_version(tmp_path, 2, extra=SLOW_IMPORT.replace("1.5", "30"))
        if moment == "importing":
            server.wait_log("importing 2")
        began = time.monotonic()
        assert server.stop(signal.SIGINT, timeout=10) == 0
        assert time.monotonic() - began < 10
        assert not server.left_behind()
