"""Steer new TCP connections away from some sockets of a SO_REUSEPORT group.

A socket of the group cannot simply be closed, because the kernel resets the connections in its queue. So a filter
program first sends new connections to the other sockets, then the queue is emptied, and then the socket is closed.
The program is classic BPF (linux/filter.h), which needs no privilege and exists only on Linux.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence

SO_ATTACH_REUSEPORT_CBPF = 51
SO_DETACH_REUSEPORT_BPF = 68
"""Both from asm-generic/socket.h; the socket module does not name them. Detaching needs Linux 5.3."""

_LOAD_ABSOLUTE = 0x20  # BPF_LD | BPF_W | BPF_ABS
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN_VALUE = 0x06  # BPF_RET | BPF_K
_RETURN_ACCUMULATOR = 0x16  # BPF_RET | BPF_A
_RANDOM = (-0x1000 + 56) & 0xFFFFFFFF  # SKF_AD_OFF + SKF_AD_RANDOM
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter


def random_choice_program(indices: Sequence[int]) -> bytes:
    """Return a program that picks one of the sockets at `indices` of the group, with equal probability. Pure.

    The index of a socket is its place in the order in which the group's sockets began to listen; closing a socket
    moves the last one into its place (reuseport_detach_sock in net/core/sock_reuseport.c).
    """
    assert indices
    program = [
        _instruction(_LOAD_ABSOLUTE, _RANDOM),
        _instruction(_MODULO, len(indices)),
    ]
    if list(indices) == list(range(len(indices))):
        program.append(_instruction(_RETURN_ACCUMULATOR, 0))
        return b"".join(program)
    for place, index in enumerate(indices[:-1]):
        program.append(_instruction(_JUMP_IF_EQUAL, place, if_false=1))
        program.append(_instruction(_RETURN_VALUE, index))
    program.append(_instruction(_RETURN_VALUE, indices[-1]))
    return b"".join(program)


def steer_to(member: socket.socket, indices: Sequence[int]) -> None:
    """Send the group's new connections to the sockets at `indices` only; `member` is any socket of the group.

    Raise OSError when the kernel refuses the program.
    """
    program = random_choice_program(indices)
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: number of instructions, padding, pointer to them.
    header = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer))
    member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, header)


def steer_to_all(member: socket.socket) -> None:
    """Let the kernel spread the group's connections by hash again. Raise OSError when the kernel refuses."""
    try:
        member.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:  # nothing attached
            raise


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, if_true, if_false, value)
