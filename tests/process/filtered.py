"""Run a program under a seccomp filter that is really installed, as systemd's SystemCallFilter= does.

    python filtered.py kill sched_setscheduler,setpriority -- program arguments…
    python filtered.py EPERM pidfd_open -- program arguments…
    python filtered.py mdwe "" -- program arguments…

`mdwe` is what MemoryDenyWriteExecute= asks of the kernel, PR_SET_MDWE in prctl(2).
"""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {
        "getpriority": 140,
        "inotify_init1": 294,
        "madvise": 28,
        "memfd_create": 319,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "prctl": 157,
        "prlimit64": 302,
        "sched_getaffinity": 204,
        "sched_getscheduler": 145,
        "sched_setaffinity": 203,
        "sched_setparam": 142,
        "sched_setscheduler": 144,
        "sched_setattr": 314,
        "ioprio_set": 251,
        "mbind": 237,
        "migrate_pages": 256,
        "move_pages": 279,
        "set_mempolicy": 238,
        "setpriority": 141,
        "setrlimit": 160,
        "sigaltstack": 131,
        "socketpair": 53,
        "chown": 92,
        "fchown": 93,
        "lchown": 94,
        "fchownat": 260,
        "flock": 73,
        "waitid": 247,
        "alarm": 37,
        "setitimer": 38,
    },
    "aarch64": {
        "getpriority": 141,
        "inotify_init1": 26,
        "madvise": 233,
        "memfd_create": 279,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "prctl": 167,
        "prlimit64": 261,
        "sched_getaffinity": 123,
        "sched_getscheduler": 120,
        "sched_setaffinity": 122,
        "sched_setparam": 118,
        "sched_setscheduler": 119,
        "sched_setattr": 274,
        "ioprio_set": 30,
        "mbind": 235,
        "migrate_pages": 238,
        "move_pages": 239,
        "set_mempolicy": 237,
        "setpriority": 140,
        "setrlimit": 164,
        "sigaltstack": 132,
        "socketpair": 199,
        "fchown": 55,
        "fchownat": 54,
        "flock": 32,
        "waitid": 95,
        "setitimer": 103,
    },
}
"""asm/unistd_64.h and asm-generic/unistd.h."""
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_… in linux/audit.h."""
CALLS = NUMBERS.get(platform.machine(), {})
RESOURCES = (
    "ioprio_set",
    "mbind",
    "migrate_pages",
    "move_pages",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "set_mempolicy",
    "setpriority",
    "setrlimit",
)
"""systemd's @resources."""
CHOWN = tuple(name for name in ("chown", "fchown", "lchown", "fchownat") if name in CALLS)
"""A part of systemd's @privileged."""

_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MDWE = 65
_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_INSTRUCTION = struct.Struct("=HBBI")


def program(calls, action):
    """Return a filter that does `action` for each of `calls`, and allows the rest."""
    code = [
        (_LOAD, 0, 0, 4),  # arch in struct seccomp_data
        (_JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[platform.machine()]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),  # nr
    ]
    for name in calls:
        code += [(_JUMP_IF_EQUAL, 0, 1, CALLS[name]), (_RETURN, 0, 0, action)]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


def prctl(*arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = [ctypes.c_ulong(number) for number in arguments[1:]]
    numbers += [ctypes.c_ulong(0)] * (4 - len(numbers))
    if libc.prctl(arguments[0], *numbers):
        raise OSError(ctypes.get_errno(), "prctl")


def install(code):
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(code) // _INSTRUCTION.size, ctypes.addressof(buffer))
    pointer = ctypes.create_string_buffer(header, len(header))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(pointer))


def command(how, calls, program):
    """Return the command line that runs `program` like that."""
    return [sys.executable, __file__, how, ",".join(calls), "--", *program]


def main(how, calls, _, *program_words):
    if how == "mdwe":
        prctl(_PR_SET_MDWE, 1)
    else:
        action = _KILL_PROCESS if how == "kill" else _ERRNO | getattr(errno, how)
        install(program(calls.split(","), action))
    os.execv(program_words[0], program_words)


if __name__ == "__main__":
    main(*sys.argv[1:])
