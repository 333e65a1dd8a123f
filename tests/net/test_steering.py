import struct

import pytest

from asgireload.net.steering import random_choice_program


def run(program, value):
    """Interpret a classic BPF program with `value` as the random number; return what it chooses."""
    code = list(struct.iter_unpack("=HBBI", program))
    place = accumulator = 0
    while True:
        operation, if_true, if_false, constant = code[place]
        place += 1
        if operation == 0x20:
            accumulator = value
        elif operation == 0x94:
            accumulator %= constant
        elif operation == 0x15:
            place += if_true if accumulator == constant else if_false
        elif operation == 0x06:
            return constant
        else:
            assert operation == 0x16
            return accumulator


@pytest.mark.parametrize("indices", [[0], [3], [0, 1, 2], [1, 3], [5, 0, 2, 4]])
def test_each_index_is_chosen_as_often(indices):
    program = random_choice_program(indices)
    chosen = [run(program, value) for value in range(10 * len(indices))]
    assert {index: chosen.count(index) for index in chosen} == dict.fromkeys(indices, 10)
