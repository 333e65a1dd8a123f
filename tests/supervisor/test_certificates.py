"""When certificates are read again, and what is kept when they do not fit."""

import errno
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.config import Config
from asgireload.errors import TlsError
from asgireload.net import tls
from asgireload.net.tls import unseal
from asgireload.supervisor.certificates import Certificates, ChangeWatch, look_at
from tests.certificates import AUTHORITY, LONG_AGO

A, B, C = (((0, 0, 0, number),) for number in range(3))


def test_files_are_read_when_a_change_is_followed_by_quiet():
    watch = ChangeWatch(tried=A)
    assert not watch.is_due(A)
    assert not watch.is_due(B)  # the certificate, perhaps
    assert not watch.is_due(C)  # and its key
    assert watch.is_due(C)


def test_files_that_did_not_fit_are_tried_again_only_when_they_change():
    watch = ChangeWatch(tried=B)
    assert not any(watch.is_due(B) for _ in range(5))
    watch.is_due(C)
    assert watch.is_due(C)


def test_a_change_that_was_taken_back_is_forgotten():
    watch = ChangeWatch(tried=A)
    assert [watch.is_due(seen) for seen in (B, A, B, A)] == [False] * 4


@given(st.lists(st.sampled_from([A, B, C, (None,)]), max_size=30))
def test_what_is_read_was_seen_twice_and_is_news(states):
    watch = ChangeWatch(tried=A)
    before = None
    for seen in states:
        tried = watch.tried
        if watch.is_due(seen):
            assert seen == before != tried
            watch.tried = seen
        before = seen
    watch.is_due(states[-1] if states else A)
    if states and states[-1] != watch.tried:
        assert watch.is_due(states[-1]), "a lasting change is always taken up"


def test_renames_moved_links_and_missing_files_are_seen(tmp_path):
    """As certbot renews, and as Kubernetes replaces secrets: `..data` is moved to another directory."""
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "tls.crt").write_text("same size")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
    first = look_at(("tls.crt",), str(tmp_path))
    assert look_at(("tls.crt",), str(tmp_path)) == first
    (tmp_path / "..data_new").symlink_to("2")
    (tmp_path / "..data_new").rename(tmp_path / "..data")
    second = look_at(("tls.crt",), str(tmp_path))
    assert second != first
    (tmp_path / "2" / "new").write_text("same size")
    (tmp_path / "2" / "new").rename(tmp_path / "2" / "tls.crt")
    third = look_at(("tls.crt",), str(tmp_path))
    assert third != second
    (tmp_path / "..data").unlink()
    assert look_at(("tls.crt",), str(tmp_path)) == (None,)


@pytest.fixture
def make(tmp_path):
    """Make certificates of a server whose files lie in the test's directory."""
    made = []

    def make_(wall_clock=time.time, **options):
        pair = {"ssl_certfile": "a.pem", "ssl_keyfile": "a.key"}
        made.append(Certificates(Config(**pair | options), str(tmp_path), wall_clock))
        return made[-1]

    yield make_
    for certificates in made:
        certificates.close()


def serial_of(certificates):
    return unseal(certificates.descriptor).main[0].chain


def test_new_files_take_the_place_of_the_old_and_are_shown(tmp_path, make):
    AUTHORITY.issue(tmp_path, "a", "old.example")
    now = 100.0
    certificates = make(wall_clock=lambda: now)
    assert certificates.load()
    assert not certificates.load(), "nothing new"
    before = serial_of(certificates)
    AUTHORITY.issue(tmp_path, "a", "new.example", common_name="new")
    now = 200.0
    assert not certificates.has_settled_change()
    assert certificates.has_settled_change()
    assert certificates.load()
    assert serial_of(certificates) != before
    (shown,) = certificates.snapshots()
    assert (shown.certfile, shown.names, shown.loaded_at) == ("a.pem", ("new.example",), 200.0)
    assert "CN=new" in shown.subject
    assert shown.not_after > time.time() > shown.not_before


def test_files_that_were_only_touched_are_no_news(tmp_path, make):
    AUTHORITY.issue(tmp_path, "a")
    certificates = make()
    certificates.load()
    os.utime(tmp_path / "a.pem", (1, 1))
    certificates.has_settled_change()
    assert certificates.has_settled_change()
    assert not certificates.load()
    assert not certificates.has_settled_change()


def test_what_does_not_fit_leaves_everything_as_it_was_until_the_next_change(tmp_path, make):
    good = AUTHORITY.issue(tmp_path, "a")
    certificates = make()
    certificates.load()
    before, shown = serial_of(certificates), certificates.snapshots()
    key = good.keyfile.read_bytes()
    AUTHORITY.issue(tmp_path, "b").keyfile.rename(good.keyfile)
    with pytest.raises(TlsError, match="does not belong"):
        certificates.load()
    assert (serial_of(certificates), certificates.snapshots()) == (before, shown)
    assert "does not belong" in certificates.error
    assert not certificates.has_settled_change(), "the same files are not tried again"
    good.keyfile.write_bytes(key)
    os.utime(good.keyfile, (1, 1))  # two writes within a tick of the clock look the same
    certificates.has_settled_change()
    assert certificates.has_settled_change()
    assert not certificates.load(), "the former ones are back"
    assert certificates.error is None


def test_a_lack_of_descriptors_is_an_error_like_another(tmp_path, make, monkeypatch):
    AUTHORITY.issue(tmp_path, "a")
    certificates = make()
    certificates.load()
    AUTHORITY.issue(tmp_path, "a")

    def fail(material):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(tls, "seal", fail)
        with pytest.raises(TlsError, match=r"kept in memory: .*Too many open files"):
            certificates.load()
    assert certificates.load()


def test_only_the_certificate_that_changed_counts_as_read_anew(tmp_path, make):
    AUTHORITY.issue(tmp_path, "a", "a.example")
    AUTHORITY.issue(tmp_path, "b", "b.example", together=True)
    now = 1.0
    certificates = make(wall_clock=lambda: now, ssl_sni=("b.pem",))
    certificates.load()
    now = 2.0
    AUTHORITY.issue(tmp_path, "b", "c.example", together=True)
    certificates.load()
    assert [(entry.names, entry.loaded_at) for entry in certificates.snapshots()] == [
        (("a.example",), 1.0),
        (("c.example",), 2.0),
    ]


def test_an_expired_certificate_is_a_warning_once(tmp_path, make, caplog):
    AUTHORITY.issue(tmp_path, "a", not_before=LONG_AGO, not_after=LONG_AGO)
    certificates = make()
    certificates.load()
    certificates.load()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Certificate a.pem: it has expired" in caplog.text


def test_with_a_context_factory_only_what_can_be_read_is_checked(tmp_path, make):
    AUTHORITY.issue(tmp_path, "a")
    AUTHORITY.issue(tmp_path, "b").keyfile.rename(tmp_path / "a.key")
    certificates = make(ssl_context_factory="m:f")
    assert certificates.load()
    (tmp_path / "a.pem").unlink()
    with pytest.raises(TlsError, match="no such file"):
        certificates.load()


def test_a_factory_alone_has_no_files_but_speaks_tls(make):
    certificates = make(ssl_certfile=None, ssl_keyfile=None, ssl_context_factory="m:f")
    assert certificates.load()
    assert certificates.descriptor is not None
    assert certificates.snapshots() == ()
    assert not certificates.has_settled_change()


def test_a_server_without_tls_looks_at_nothing(make):
    certificates = make(bind=("80 plain",))
    assert not certificates.load()
    assert (certificates.is_spoken, certificates.descriptor) == (False, None)
    assert not certificates.has_settled_change()
