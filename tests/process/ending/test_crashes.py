"""Workers and templates that die, hang, age or grow; applications that forbid forking."""

import os
import re
import resource
import signal
import socket
import threading
import time

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process


def test_killed_worker_comes_back_within_a_second_with_the_same_code(tmp_path):
    write_version(tmp_path, 1)
    began = time.monotonic()
    with Server(tmp_path, workers=2) as server:
        start = time.monotonic() - began
        write_version(tmp_path, 2)
        pids = server.worker_pids()
        started = time.monotonic()
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: len(set(server.worker_pids()) - {pids[0]}) == 2)
        # A start boots workers, too: a busy machine makes both longer.
        assert time.monotonic() - started < 1 + start
        assert {server.version() for _ in range(20)} == {1}
        assert server.status()["restarts_total"] == 1
        assert "killed by SIGKILL" in server.log


def test_release_that_dies_some_seconds_after_it_was_ready_is_taken_back(tmp_path):
    """Everybody else's server would be in a crash loop now."""
    write_version(tmp_path, 1)
    with Server(tmp_path, "--probation", "0.2", "--drain-grace", "0.2", workers=2) as server:
        doomed = (
            "\n_plain = lifespan\nasync def lifespan(receive, send):\n"
            "    asyncio.get_running_loop().call_later(2, os._exit, 7)\n"
            "    await _plain(receive, send)\n"
        )
        write_version(tmp_path, 2, extra=doomed)
        server.reload()
        assert server.status()["generation"] == 2
        server.wait_log("Reload 1 reverted", timeout=30)
        wait_until(lambda: server.status()["state"] == "serving")
        status = server.status()
        assert status["generation"] == 1
        assert status["last_reload"]["outcome"] == "reverted"
        assert "exit status 7" in status["last_reload"]["failure"]["summary"]
        assert {server.version() for _ in range(20)} == {1}


def test_lifespan_that_fails_on_respawn_leaves_the_others_and_recovers(tmp_path):
    """A dependency is down while a worker is replaced: the site stays, and heals alone."""
    flag = tmp_path / "down"
    needy = (
        "\n_plain = lifespan\nasync def lifespan(receive, send):\n"
        f"    if os.path.exists({str(flag)!r}):\n        raise RuntimeError('database is away')\n"
        "    await _plain(receive, send)\n"
    )
    write_version(tmp_path, 1, extra=needy)
    with Server(tmp_path, "--lifespan", "on", workers=2) as server:
        flag.touch()
        victim, survivor = server.worker_pids()
        os.kill(victim, signal.SIGKILL)
        server.wait_log("database is away")
        assert server.version() == 1
        assert server.worker_pids() == [survivor]
        flag.unlink()
        wait_until(lambda: len(server.worker_pids()) == 2, timeout=10)


def test_gives_up_with_status_4_when_nothing_serves_any_more(tmp_path):
    flag = tmp_path / "down"
    needy = (
        "\n_plain = lifespan\nasync def lifespan(receive, send):\n"
        f"    if os.path.exists({str(flag)!r}):\n        raise RuntimeError('database is away')\n"
        "    await _plain(receive, send)\n"
    )
    write_version(tmp_path, 1, extra=needy)
    options = ["--lifespan", "on", "--give-up-after", "2"]
    with Server(tmp_path, *options, workers=1) as server:
        time.sleep(1.1)  # it has served steadily, which is what the time is counted from
        flag.touch()
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        assert server.process.wait(20) == 4
        assert "giving up" in server.log


def test_worker_whose_loop_is_blocked_is_dumped_and_replaced(tmp_path):
    """The heartbeat comes from the loop itself, so a thread cannot answer for it."""
    blocking = (
        "\nimport time\nasync def block(scope, receive, send):\n    time.sleep(1000)\n"
        "PATHS['/block'] = block\n"
    )
    write_version(tmp_path, 1, extra=blocking)
    with Server(tmp_path, "--timeout-worker-healthcheck", "1.5", workers=2) as server:
        before = set(server.worker_pids())
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /block HTTP/1.1\r\nhost: test\r\n\r\n")
            server.wait_log("has not turned its loop")
            wait_until(lambda: len(server.worker_pids()) == 2)
        assert len(before & set(server.worker_pids())) == 1
        assert "in block" in server.log, "the stack of the hang"


@pytest.mark.parametrize(
    "options",
    [
        ["--max-requests", "20", "--max-requests-jitter", "5"],
        ["--worker-lifetime", "2"],
        ["--max-rss", "1M"],
    ],
)
def test_recycled_workers_are_replaced_without_a_gap(tmp_path, options):
    write_version(tmp_path, 1)
    with Server(tmp_path, *options, "--drain-grace", "0.2", workers=2) as server:
        before = set(server.worker_pids())
        deadline = time.monotonic() + 20
        while before & set(server.worker_pids()):
            assert time.monotonic() < deadline, "the first workers are still there"
            for _ in range(20):
                assert server.version() == 1
            assert len(server.workers()) >= 2
        assert "Recycling worker" in server.log
        assert server.status()["restarts_total"] == 0


THREAD = (
    "\nimport threading, time\n"
    "threading.Thread(target=time.sleep, args=(1000,), name='metrics-poller', daemon=True).start()\n"
)


def test_application_that_starts_threads_at_import_is_served_without_preloading(tmp_path):
    """Each worker imports by itself, one warning names the culprit, and reloads still work."""
    write_version(tmp_path, 1, extra=THREAD)
    with Server(tmp_path, "--probation", "0.1", workers=2) as server:
        assert server.log.count("metrics-poller") == 1
        assert server.status()["templates"][0]["preload"] is False
        write_version(tmp_path, 2, extra=THREAD)
        server.reload()
        assert server.version() == 2
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        wait_until(lambda: len(server.worker_pids()) == 2)


def test_preload_can_be_forced(tmp_path):
    write_version(tmp_path, 1, extra=THREAD)
    with Server(tmp_path, "--preload", workers=1) as server:
        assert "metrics-poller" not in server.log
        assert server.status()["templates"][0]["preload"] is True


def test_first_worker_that_dies_silently_is_tried_without_preloading(tmp_path):
    """Code that works only in the process that imported it."""
    picky = (
        "\n_imported_in = os.getpid()\n_plain = lifespan\nasync def lifespan(receive, send):\n"
        "    if os.getpid() != _imported_in:\n        os._exit(1)\n"
        "    await _plain(receive, send)\n"
    )
    write_version(tmp_path, 1, extra=picky)
    with Server(tmp_path, workers=2) as server:
        assert "trying once without preloading" in server.log
        assert server.version() == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("    import time\n    time.sleep(1000)\n", "blocks the loop"),
        (
            "    while True:\n        try:\n            await asyncio.sleep(1000)\n"
            "        except asyncio.CancelledError:\n            pass\n",
            "swallows the cancellation",
        ),
    ],
    ids=["blocks", "swallows"],
)
def test_handler_that_cannot_be_ended_is_killed_at_the_deadline_and_reported(tmp_path, body, why):
    write_version(
        tmp_path, 1, extra=f"\nasync def bad(scope, receive, send):\n{body}PATHS['/bad'] = bad\n"
    )
    options = ["--drain-timeout", "1", "--lifespan-timeout", "1", "--probation", "0"]
    with Server(tmp_path, *options, workers=1) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /bad HTTP/1.1\r\nhost: test\r\n\r\n")
            wait_until(lambda: sum(worker["exchanges"] for worker in server.status()["workers"]))
            server.reload()
            assert server.version() == 1
            wait_until(lambda: not server.workers("draining") and not server.workers("dying"))
        last = server.status()["last_reload"]
        assert last["outcome"] == "committed"
        assert last["workers_killed"] + last["exchanges_cut"] >= 1, why


def test_template_that_is_killed_is_replaced_when_a_worker_is_owed(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, "--probation", "0.1", workers=2) as server:
        (template,) = [template["pid"] for template in server.status()["templates"]]
        os.kill(template, signal.SIGKILL)
        server.wait_log("died (killed by SIGKILL)")
        victim, _ = server.worker_pids()
        os.kill(victim, signal.SIGKILL)
        server.wait_log("Reload 1 committed")
        assert server.status()["last_reload"]["origins"] == ["lost template"]
        wait_until(lambda: len(server.worker_pids()) == 2)
        assert server.version() == 1


def test_worker_that_gets_sigterm_is_replaced_while_it_drains(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, workers=1) as server:
        (worker,) = server.worker_pids()
        answers = []
        asking = threading.Thread(target=lambda: answers.append(server.get("/slow")))
        asking.start()
        wait_until(lambda: sum(worker["exchanges"] for worker in server.status()["workers"]))
        os.kill(worker, signal.SIGTERM)
        assert server.version() == 1
        asking.join(10)
        assert answers
        wait_until(lambda: worker not in server.worker_pids())
        assert server.status()["restarts_total"] == 0


def test_default_timeout_for_sockets_does_not_block_the_loop(tmp_path):
    """An application calls socket.setdefaulttimeout() at import."""
    write_version(tmp_path, 1, extra="\nimport socket; socket.setdefaulttimeout(30)\n")
    with Server(tmp_path, workers=2) as server:
        for _ in range(10):
            assert server.get(timeout=10).startswith("1 ")


def test_processes_that_the_application_forks_can_be_terminated(tmp_path):
    forking = (
        "\nimport multiprocessing, time\n"
        "async def fork(scope, receive, send):\n"
        "    child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "    child.start()\n    child.terminate()\n    child.join(5)\n"
        "    await answer(send, b'%d' % (child.exitcode if child.exitcode is not None else 99))\n"
        "PATHS['/fork'] = fork\n"
    )
    write_version(tmp_path, 1, extra=forking)
    with Server(tmp_path, workers=1) as server:
        assert server.get("/fork") == "-15"


def test_running_out_of_descriptors_does_not_wedge_the_supervisor(tmp_path):
    """A worker that cannot be replaced for want of open files is a line in the log; a stop still works."""
    write_version(tmp_path, 1)
    with Server(tmp_path, workers=2) as server:
        victim, _ = server.worker_pids()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, 3))
        os.kill(victim, signal.SIGKILL)
        server.wait_log("could not be started")
        assert server.version() == 1
        assert server.stop(timeout=10) == 0


def test_more_workers_than_descriptors_are_refused_before_one_is_started(tmp_path):
    """By the command as by the signal, with the number that fits; the workers that serve are left alone."""
    write_version(tmp_path, 1)
    with Server(tmp_path, workers=2) as server:
        pids = server.worker_pids()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (100, 100))
        done = server.control("scale", "60")
        assert done.returncode == 1
        fits = int(re.search(r"room for (\d+) workers and not for 60", done.stderr)[1])
        assert 2 < fits < 12
        assert server.worker_pids() == pids
        fits -= 1  # operators that ask at the same time take room, too
        assert server.control("scale", str(fits)).returncode == 0
        wait_until(lambda: len(server.workers()) == fits)

        def is_refused():
            server.kill(signal.SIGTTIN)
            return "WARNING:  there is room for" in server.log

        wait_until(is_refused)
        server.reload()
        server.reload()
        assert "could not be started" not in server.log


def test_random_numbers_differ_between_workers(tmp_path):
    drawing = (
        "\nimport random\nasync def draw(scope, receive, send):\n"
        "    await answer(send, b'%d %d' % (random.getrandbits(60), os.getpid()))\n"
        "PATHS['/draw'] = draw\n"
    )
    write_version(tmp_path, 1, extra=drawing)
    with Server(tmp_path, workers=4) as server:
        first = {}
        deadline = time.monotonic() + 20
        while len(first) < 4 and time.monotonic() < deadline:
            number, pid = server.get("/draw").split()
            first.setdefault(pid, number)
        assert len(first) == len(set(first.values())) == 4


def test_new_connections_do_not_wait_for_a_slot_that_cannot_be_filled(tmp_path):
    """One socket for each slot: the kernel must not choose the one that nobody accepts from."""
    flag = tmp_path / "down"
    needy = (
        "\n_plain = lifespan\nasync def lifespan(receive, send):\n"
        f"    if os.path.exists({str(flag)!r}):\n        raise RuntimeError('database is away')\n"
        "    await _plain(receive, send)\n"
    )
    write_version(tmp_path, 1, extra=needy)
    options = ["--lifespan", "on", "--accept", "per-slot"]
    with Server(tmp_path, *options, workers=2) as server:
        flag.touch()
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        server.wait_log("database is away")
        for _ in range(40):
            assert server.get(timeout=10).startswith("1 ")
