"""Where the time of a request goes: from what perf prints to a table."""

from benchmarks.where_time_goes import KERNEL, shares_of, table

REPORT = """
# Overhead  Shared Object      Symbol
    40.00%  [kernel.kallsyms]  [k] tcp_sendmsg
    10.00%  libpython3.11.so.1.0  [.] _PyObject_Malloc
    10.00%  asgireload__mypyc.cpython-311-x86_64-linux-gnu.so  [.] CPyDef_scope___http_scope
    20.00%  loop.cpython-311-x86_64-linux-gnu.so  [.] uv__io_poll
"""


def test_each_sample_has_one_place_and_shares_make_a_whole() -> None:
    shares = shares_of(REPORT)
    assert shares == {
        KERNEL: 0.5,
        "asgireload, compiled: the scope": 0.125,
        "uvloop": 0.25,
        "Python: making and freeing objects": 0.125,
    }
    assert sum(shares.values()) == 1


def test_the_table_multiplies_shares_with_the_time_of_a_request() -> None:
    assert "| uvloop | 25% | 3.0 |" in table(shares_of(REPORT), 12.0)
