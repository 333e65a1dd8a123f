"""What an import leaves behind that forbids forking, and what is harmless.

Each case runs in a fresh interpreter, since threads and descriptors belong to a process.
"""

import json
import os
import stat
import subprocess
import sys
import textwrap

import msgspec
import pytest

from asgireload.template.fork_hazards import (
    Action,
    Contents,
    Descriptor,
    NativeThread,
    judge,
    judge_descriptor,
    judge_native_thread,
)

PROBE = """
import json, sys
from asgireload.template.hazard_search import find_hazards, open_descriptors
before = open_descriptors()
exec(sys.argv[1])
found = find_hazards(before)
print(json.dumps([found.unsafe, found.native_threads]), flush=True)
import os
if "HELPER" in globals():
    HELPER.kill()
os._exit(0)
"""


def hazards(code):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, textwrap.dedent(code)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    unsafe, native = json.loads(done.stdout.splitlines()[-1])
    return unsafe, native


@pytest.mark.parametrize(
    "code",
    [
        "import asyncio, json, sqlite3, ssl",
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "import socket; s = socket.socket()",
        "f = open('/dev/null')",
        "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "import mmap; m = mmap.mmap(-1, 4096)",
        "import sqlite3; c = sqlite3.connect('/tmp/' + str(__import__('os').getpid()) + '.db')\n"
        "c.execute('create table t (a)'); __import__('os').unlink(c.execute('pragma database_list').fetchone()[2])",
        "import os; p = os.pidfd_open(os.getpid())",
        "import multiprocessing; lock = multiprocessing.Lock()",
        "import subprocess; subprocess.run(['true'])",
    ],
    ids=[
        "imports",
        "datagrams",
        "unconnected socket",
        "a device",
        "log socket",
        "mapped file",
        "an idle connection to SQLite",
        "pidfd",
        "a lock of multiprocessing",
        "a child that was waited for",
    ],
)
def test_harmless(code):
    assert hazards(code) == ([], [])


def test_a_thread_that_has_ended_is_harmless():
    unsafe, _ = hazards(
        "import threading; t = threading.Thread(target=print, args=('x',)); t.start(); t.join()"
    )
    assert unsafe == []  # the kernel may still list it for a moment


def test_a_python_thread_is_named_with_its_place():
    unsafe, _ = hazards(
        """
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), daemon=True, name="poller").start()
        time.sleep(0.05)
        """
    )
    assert len(unsafe) == 1
    assert "thread 'poller' was started at import" in unsafe[0]


def test_a_listening_socket_is_named_with_its_address():
    unsafe, _ = hazards(
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])"
    )
    assert len(unsafe) == 1
    assert "listens on 127.0.0.1:" in unsafe[0]


def test_a_connection_is_named_with_its_peer():
    unsafe, _ = hazards(
        """
        import socket
        listener = socket.create_server(('127.0.0.1', 0))
        before = open_descriptors()
        connection = socket.create_connection(listener.getsockname())
        """
    )
    assert len(unsafe) == 1
    assert "a connection to 127.0.0.1:" in unsafe[0]


def test_an_event_loop_made_at_import_is_found():
    unsafe, _ = hazards("import asyncio; loop = asyncio.new_event_loop()")
    assert "an event loop or selector was made at import, held by __main__.loop" in unsafe


def test_a_thread_of_the_low_level_module_is_found():
    """`_thread.start_new_thread`: threading does not list it."""
    unsafe, _ = hazards(
        """
        import _thread, time
        def poll():
            begun.release()
            time.sleep(60)
        begun = _thread.allocate_lock()
        begun.acquire()
        _thread.start_new_thread(poll, ())
        begun.acquire()
        """
    )
    assert len(unsafe) == 1
    assert "a thread of the module _thread was started at import (__main__, <string>:" in unsafe[0]


def test_a_native_thread_is_named_with_its_library():
    """As confluent_kafka's and onnxruntime's: here one that the C library sleeps in, and nobody has named."""
    unsafe, _ = hazards(NATIVE_THREAD)
    assert unsafe == [
        "native thread 'rdk:main' was started at import, and is not known to survive a fork"
    ]


NATIVE_THREAD = """
import ctypes, time
libc = ctypes.CDLL(None)
thread = ctypes.c_ulong()
sleep = ctypes.cast(libc.sleep, ctypes.c_void_p)
libc.pthread_create(ctypes.byref(thread), None, sleep, ctypes.c_void_p(60))
libc.pthread_setname_np(thread, b"rdk:main")
"""


@pytest.mark.parametrize(
    ("name", "libraries", "kind"),
    [
        ("", ("libscipy_openblas64_-32a4b2a6.so",), "native thread that survives"),
        ("", ("libopenblasp-r0.3.23.so",), "native thread that survives"),
        ("jemalloc_bg_thd", ("_polars_runtime.abi3.so",), "native thread that survives"),
        ("", ("libarrow.so.2600",), "native thread that survives"),
        ("", ("tokenizers.abi3.so",), "native thread that survives"),
        ("polars-0", ("_polars_runtime.abi3.so",), "native thread"),
        ("rdk:broker-1", ("librdkafka-0cb94173.so.1",), "native thread"),
        ("", ("onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so",), "native thread"),
        ("", ("_duckdb.cpython-311-x86_64-linux-gnu.so",), "native thread"),
        ("event_engine", ("cygrpc.cpython-311-x86_64-linux-gnu.so",), "native thread"),
        ("", (), "native thread"),
    ],
)
def test_native_threads_that_are_known_to_survive(name, libraries, kind):
    assert judge_native_thread(NativeThread(name, libraries)).kind == kind


def test_a_child_process_is_named_with_its_command():
    unsafe, _ = hazards("import subprocess; HELPER = subprocess.Popen(['sleep', '60'])")
    assert len(unsafe) == 1
    assert unsafe[0].endswith("(sleep 60) was started at import, held by __main__.HELPER")


def test_the_resource_tracker_of_multiprocessing_is_harmless():
    assert hazards(
        """
        from multiprocessing.shared_memory import SharedMemory
        memory = SharedMemory(create=True, size=100)
        memory.unlink()
        """
    ) == ([], [])


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import os; E = os.eventfd(0)", "eventfd"),
        ("import ctypes; T = ctypes.CDLL(None).timerfd_create(1, 0)", "timerfd"),
        ("import ctypes; I = ctypes.CDLL(None).inotify_init()", "inotify"),
    ],
)
def test_a_counter_or_queue_of_the_kernel_is_found(code, name):
    unsafe, _ = hazards(code)
    assert unsafe == [f"{name} of the kernel was opened at import"]


def test_a_process_pool_that_was_not_used_yet_is_found():
    """It has neither processes nor threads; its queues would be everybody's."""
    unsafe, _ = hazards("import concurrent.futures as f; POOL = f.ProcessPoolExecutor(1)")
    assert unsafe == [
        "a pipe was made at import (a queue, an executor, a process), held by __main__.POOL"
    ]


def test_a_named_pipe_that_is_read_is_found(tmp_path):
    code = f"import os; os.mkfifo({str(tmp_path / 'pipe')!r}); "
    code += f"P = os.open({str(tmp_path / 'pipe')!r}, os.O_RDWR)"
    unsafe, _ = hazards(code)
    assert unsafe == [f"{tmp_path / 'pipe'} is read since the import"]


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM", "SOCK_SEQPACKET"])
def test_a_socket_pair_of_any_type_is_found(kind):
    unsafe, _ = hazards(f"import socket; PAIR = socket.socketpair(socket.AF_UNIX, socket.{kind})")
    assert unsafe == [
        "a socket pair was made at import (an event loop, or a child process), held by __main__.PAIR"
    ]


def test_a_connection_that_is_being_made_is_found():
    """As a client in the background makes it; it has no peer yet."""
    unsafe, _ = hazards(
        """
        import socket
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        before |= {listener.fileno()}
        filling = [socket.socket() for _ in range(4)]
        for one in filling:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        """
    )
    assert any("a connection to a server was opened" in text for text in unsafe)


@pytest.mark.parametrize(
    ("family", "address"),
    [("AF_INET", "('127.0.0.1', 0)"), ("AF_UNIX", "'\\0asgireload-test-%d' % os.getpid()")],
)
def test_a_datagram_socket_with_an_address_is_found(family, address):
    code = f"import os, socket; S = socket.socket(socket.{family}, socket.SOCK_DGRAM); S.bind({address})"
    if family == "AF_INET":
        # Ports of the kernel's choice are no address that others know.
        code = code.replace("0)", "9 + 5000 + os.getpid() % 20000)")
    unsafe, _ = hazards(code)
    assert len(unsafe) == 1
    assert "a datagram socket with the address " in unsafe[0]
    assert unsafe[0].endswith("held by __main__.S")


def test_a_netlink_socket_is_found():
    unsafe, _ = hazards(
        "import socket; N = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)"
    )
    assert unsafe == ["a netlink, raw or packet socket was opened at import, held by __main__.N"]


def test_a_file_that_cannot_be_opened_again_is_found():
    """As one that was opened before privileges were given up."""
    file = Descriptor(9, "/srv/secret.zip", stat.S_IFREG, os.O_RDONLY, can_reopen=False)
    found = judge_descriptor(file)
    assert found.kind == "file that cannot be opened again"
    assert found.action is Action.FALL_BACK
    assert "/srv/secret.zip" in found.text


def test_a_lock_of_the_process_is_found(tmp_path):
    """As DuckDB takes it on its file, and SQLite in WAL mode."""
    path = str(tmp_path / "data.db")
    unsafe, _ = hazards(f"import fcntl; F = open({path!r}, 'w+'); fcntl.lockf(F, fcntl.LOCK_EX)")
    assert unsafe == [
        f"a lock on {path} was taken at import, which forked processes do not have, held by __main__.F"
    ]


def test_a_transaction_of_sqlite_is_found_by_its_lock(tmp_path):
    path = str(tmp_path / "data.db")
    unsafe, _ = hazards(
        f"import sqlite3; C = sqlite3.connect({path!r}); C.execute('create table t (a)'); "
        "C.execute('insert into t values (1)')"
    )
    assert f"a lock on {path} was taken at import, which forked processes do not have" in unsafe


def test_a_lock_of_a_descriptor_stays(tmp_path):
    path = str(tmp_path / "lock")
    code = f"import fcntl; F = open({path!r}, 'w+'); fcntl.flock(F, fcntl.LOCK_EX)"
    assert hazards(code) == ([], [])
    locked = Descriptor(9, path, stat.S_IFREG, os.O_RDWR, locks=("FLOCK",))
    assert judge_descriptor(locked).action is Action.KEEP


def test_devices_of_a_gpu_are_found():
    device = Descriptor(9, "/dev/nvidiactl", stat.S_IFCHR, os.O_RDWR)
    assert judge_descriptor(device).action is Action.FALL_BACK
    assert judge_descriptor(msgspec.structs.replace(device, target="/dev/urandom")) is None


def test_a_posix_timer_is_found():
    assert judge(Contents(posix_timers=1))[0].action is Action.FALL_BACK


REAL = [
    ("numpy", "import numpy; numpy.ones((300, 300)) @ numpy.ones((300, 300))", ""),
    (
        "confluent_kafka",
        "from confluent_kafka import Producer; P = Producer({'bootstrap.servers': '127.0.0.1:1'}, logger=None)",
        "native thread 'rdk:main' of librdkafka",
    ),
    ("duckdb", "import duckdb; C = duckdb.connect('data.duckdb')", "a lock on "),
    ("grpc", "import grpc; C = grpc.insecure_channel('127.0.0.1:1')", "native thread"),
    (
        "polars",
        "import polars; polars.DataFrame({'a': [1]}).lazy().group_by('a').sum().collect()",
        "native thread 'polars-",
    ),
    ("pyarrow", "import pyarrow.compute", ""),
    ("uvloop", "import uvloop; L = uvloop.new_event_loop()", "an event loop or selector"),
    ("sentry_sdk", "import sentry_sdk; sentry_sdk.init('http://a@127.0.0.1:1/1')", ""),
]


@pytest.mark.parametrize(("library", "code", "expected"), REAL, ids=[name for name, _, _ in REAL])
def test_real_libraries(tmp_path, monkeypatch, library, code, expected):
    pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    unsafe, _ = hazards(code)
    if expected:
        assert any(text.startswith(expected) for text in unsafe), unsafe
    else:
        assert unsafe == []
