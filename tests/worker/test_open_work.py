"""What a worker that drains tells of the work that is open in it."""

import asyncio

from asgireload.ipc.messages import OpenWork, WorkerWaits
from asgireload.worker import open_work
from asgireload.worker.open_work import WaitReports, summarize_work
from tests.wired import make_wire


def request(seconds, path="/slow"):
    return OpenWork("request", f"GET {path}", "10.0.0.1:1", seconds)


def test_work_is_counted_by_kind_and_the_longest_is_named():
    work = [request(float(second)) for second in range(5)]
    work += [OpenWork("WebSocket", "WebSocket /chat", "", 60.0), OpenWork("connection")]
    report = summarize_work(work, 0)
    assert report.counts == {"request": 5, "WebSocket": 1, "connection": 1}
    assert [entry.seconds for entry in report.oldest] == [60.0, 4.0, 3.0]


def test_connections_without_a_request_are_counted_and_not_named():
    assert summarize_work([OpenWork("connection")] * 3, 0) == WorkerWaits({"connection": 3})


def test_a_name_that_a_client_chooses_is_bounded():
    (entry,) = summarize_work([request(1.0, "/" + "x" * 5000)], 0).oldest
    assert len(entry.name) == open_work.TEXT_LIMIT


def test_what_runs_without_a_connection_is_told():
    assert summarize_work([], 2).counts == {open_work.BACKGROUND: 2}
    assert summarize_work([], 0).counts == {open_work.SHUTDOWN: 1}


def test_nothing_is_told_of_a_drain_that_is_quick(monkeypatch):
    monkeypatch.setattr(open_work, "FIRST_REPORT", 30.0)
    told = []

    async def main():
        loop = asyncio.get_running_loop()
        served = make_wire(None).server
        WaitReports(served.clock, served.live, told.append).end()
        assert not [handle for handle in loop._scheduled if not handle.cancelled()]

    asyncio.run(main())
    assert not told


def test_reports_go_on_until_the_end(monkeypatch):
    monkeypatch.setattr(open_work, "FIRST_REPORT", 0.0)
    monkeypatch.setattr(open_work, "REPORT_INTERVAL", 0.0)

    async def main():
        loop = asyncio.get_running_loop()
        enough = loop.create_future()
        told = []

        def tell(report):
            told.append(report)
            if len(told) == 3:
                reports.end()
                enough.set_result(told)

        served = make_wire(None).server
        reports = WaitReports(served.clock, served.live, tell)
        return await enough

    assert [report.counts for report in asyncio.run(main())] == [{open_work.SHUTDOWN: 1}] * 3
