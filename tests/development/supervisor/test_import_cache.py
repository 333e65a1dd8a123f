"""What is kept on disk of the last run's imports is a hint, and never an error."""

import os
import time

from asgireload.development.supervisor.import_cache import (
    LONGEST_AGE,
    cache_path,
    read_record,
    write_record,
)
from asgireload.ipc.records import ImportRecord, ModuleFile

RECORD = ImportRecord(("json", "json.decoder"), (ModuleFile("app", "/app/app.py"),), {"A": None})


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = str(tmp_path / "deep" / "record")
    write_record(path, RECORD)
    assert read_record(path) == RECORD
    assert os.listdir(tmp_path / "deep") == ["record"]


def test_what_cannot_be_read_is_no_record(tmp_path):
    path = tmp_path / "record"
    assert read_record(str(path)) is None
    path.write_bytes(b"\xc1 nonsense")
    assert read_record(str(path)) is None
    assert read_record(str(tmp_path)) is None


def test_an_old_record_counts_no_more(tmp_path):
    path = str(tmp_path / "record")
    write_record(path, RECORD)
    before = time.time() - LONGEST_AGE - 60
    os.utime(path, (before, before))
    assert read_record(path) is None


def test_where_nothing_can_be_written_nothing_happens(tmp_path):
    (tmp_path / "file").write_text("")
    write_record(str(tmp_path / "file" / "record"), RECORD)


def test_applications_and_directories_have_records_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paths = {cache_path(app, place) for app in ("a:app", "b:app") for place in ("/one", "/two")}
    assert len(paths) == 4
    assert all(path.startswith(str(tmp_path)) for path in paths)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_path("a:app", "/one").startswith("/home/me/.cache/asgireload/")
