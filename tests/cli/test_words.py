"""A plain command line means the same to us and to click."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.cli.command import serve_command
from asgireload.cli.words import Words, read_plain
from asgireload.config import OPTIONS

SPELLINGS = sorted(
    {
        spelling
        for option in OPTIONS.values()
        for spelling in (
            option.flag,
            f"--no-{option.flag[2:]}",
            *option.aliases,
            *option.scaled_aliases,
        )
    }
)
TEXT = st.sampled_from(["", "1", "a:b", "-", "--", "-1", "x=y", "true", "é", "a b", "reload"])
WORD = st.one_of(
    st.sampled_from(SPELLINGS),
    st.builds("{}={}".format, st.sampled_from(SPELLINGS), TEXT),
    st.sampled_from(["-c", "--config", "--config=f", "-cf", "-w4", "--worker", "main:app", "-h"]),
    TEXT,
)


def read_by_click(words):
    return serve_command.main(list(words), standalone_mode=False)


@given(st.lists(WORD, max_size=6))
def test_what_is_plain_click_reads_the_same(words):
    plain = read_plain(words)
    if plain is not None:
        read = read_by_click(words)
        assert isinstance(read, Words)
        assert (plain.app, plain.config_file) == (read.app, read.config_file)
        assert list(plain.flags) == list(read.flags)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_every_flag_with_its_value_is_plain(option):
    spellings = [option.flag, *option.aliases, *option.scaled_aliases]
    if option.is_pair:
        lines = [[spelling] for spelling in (*spellings, f"--no-{option.flag[2:]}")]
    else:
        lines = [[spelling, "1"] for spelling in spellings] + [[f"{option.flag}=1"]]
    for line in lines:
        plain = read_plain(["main:app", *line, *line])
        assert plain is not None, line
        assert list(plain.flags) == list(read_by_click(["main:app", *line, *line]).flags)


@pytest.mark.parametrize(
    "line",
    ["--help", "main:app other:app", "main:app --workers", "main:app --workers -1", "main:app -w4",
     "main:app --workerz 4", "main:app -- x", "--access-log=1"],
)  # fmt: skip
def test_everything_else_is_for_click(line):
    assert read_plain(line.split()) is None
