import logging
import os
import subprocess
import sys

import pytest

from asgireload.log.handlers import FileHandler, ServerHandler


@pytest.fixture
def path(tmp_path):
    return tmp_path / "server.log"


@pytest.fixture
def handler(path):
    handler = FileHandler(str(path))
    yield handler
    handler.close()


def write(handler, text):
    handler.handle(logging.makeLogRecord({"msg": text}))


def test_lines_are_on_disk_when_the_call_returns(handler, path):
    write(handler, "one")
    assert path.read_text() == "one\n"


@pytest.mark.parametrize("creates", [True, False])
def test_a_file_that_was_moved_away_is_followed_by_a_new_one(handler, path, creates):
    """As logrotate does it, with `create` or without; nobody sends a signal."""
    write(handler, "one")
    path.rename(path.with_suffix(".1"))
    if creates:
        path.touch()
    write(handler, "two")
    assert path.with_suffix(".1").read_text() == "one\n"
    assert path.read_text() == "two\n"


def test_a_file_that_was_cut_is_written_from_its_beginning(handler, path):
    """logrotate's copytruncate: without O_APPEND the hole would stay."""
    write(handler, "one")
    os.truncate(path, 0)
    write(handler, "two")
    assert path.read_text() == "two\n"


def test_while_no_new_file_can_be_begun_the_old_one_is_used_and_that_is_said_once(
    handler, path, capsys
):
    write(handler, "one")
    path.rename(path.with_suffix(".1"))
    path.mkdir()
    write(handler, "two")
    write(handler, "three")
    assert path.with_suffix(".1").read_text() == "one\ntwo\nthree\n"
    assert capsys.readouterr().err.count("cannot be opened again, the old file is used") == 1
    path.rmdir()
    write(handler, "four")
    assert path.read_text() == "four\n"


WRITES_MANY = """
import logging, sys
from asgireload.log.handlers import FileHandler
handler = FileHandler(sys.argv[1])
for _ in range(50):
    handler.handle(logging.makeLogRecord({"msg": sys.argv[2] * 20_000}))
"""


def test_lines_of_several_processes_do_not_mix(path):
    """Each line is one write(2) with O_APPEND, however long it is."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITES_MANY, str(path), letter]) for letter in "ab"
    ]
    assert [writer.wait(20) for writer in writers] == [0, 0]
    lines = path.read_text().splitlines()
    assert len(lines) == 100
    assert {(line[0], len(set(line)), len(line)) for line in lines} == {
        ("a", 1, 20_000),
        ("b", 1, 20_000),
    }


def test_a_pipe_without_a_reader_is_refused_at_once(path):
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        FileHandler(str(path))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_lines_that_cannot_be_written_are_reported_once_and_fail_nobody(capsys):
    handler = FileHandler("/dev/full")
    write(handler, "one")
    write(handler, "two")
    handler.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("asgireload: /dev/full: log lines are lost: OSError(28")


def test_a_closed_stream_fails_nobody(capsys):
    read, wrote = os.pipe()
    os.close(read)
    stream = os.fdopen(wrote, "w", buffering=1)
    handler = ServerHandler(stream)
    write(handler, "one")
    write(handler, "two")
    assert capsys.readouterr().err.count("BrokenPipeError") == 1
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_text_that_no_encoding_can_carry_is_written_escaped(handler, path):
    write(handler, "\udc80")
    assert path.read_text() == "\\udc80\n"


def test_a_handler_that_was_closed_by_others_opens_its_file_again(handler, path):
    """dictConfig() of an application closes every handler that it finds."""
    handler.close()
    write(handler, "one")
    assert path.read_text() == "one\n"
