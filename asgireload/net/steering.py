"""Tell the kernel which sockets of a SO_REUSEPORT group may get new connections.

Without a program the kernel picks one by a hash over all of the group. Before one is closed, new
connections must be kept away from it, or those that wait in its queue are reset. A classic BPF program
(SO_ATTACH_REUSEPORT_CBPF in socket(7)) chooses the index; indices count in the order of bind(2).
"""

import ctypes
import socket
import struct

_SO_ATTACH_REUSEPORT_CBPF = 51
_BPF_LD_W_ABS = 0x20
_BPF_ALU_MOD_K = 0x94
_BPF_RET_A = 0x16
_SKF_AD_RANDOM = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM in linux/filter.h: load a random number."""


def steer_to_first(sock: socket.socket, count: int) -> None:
    """Let only the first `count` sockets of the group of `sock` get new connections.

    Raise OSError when the kernel refuses the program.
    """
    instructions = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_BPF_LD_W_ABS, 0, 0, _SKF_AD_RANDOM),
            (_BPF_ALU_MOD_K, 0, 0, count),
            (_BPF_RET_A, 0, 0, 0),
        )
    )
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    # struct sock_fprog: the number of instructions, padding, and where they are.
    program = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
