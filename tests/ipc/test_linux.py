"""Calls that only Linux has."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from asgireload.ipc import linux


def with_library(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    for name in linux._MALLOC_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(**functions))


def test_freed_memory_is_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    with_library(monkeypatch, mallopt=lambda option, value: calls.append((option, value)))
    linux.keep_freed_memory(1000, 2000)
    assert calls == [(linux._M_MMAP_THRESHOLD, 1000), (linux._M_TRIM_THRESHOLD, 2000)]


@pytest.mark.parametrize("name", linux._MALLOC_SETTINGS)
def test_settings_of_the_environment_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: list[Any] = []
    with_library(monkeypatch, mallopt=lambda *arguments: calls.append(arguments))
    monkeypatch.setenv(name, "1")
    linux.keep_freed_memory(1000, 2000)
    assert not calls


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with_library(monkeypatch)
    linux.keep_freed_memory(1000, 2000)
