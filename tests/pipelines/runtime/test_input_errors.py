"""What a machine refuses ends in one line with a remedy, and what was there stays."""

import errno
import os

import pytest
import torch

from gee_core.errors import InputError, lost_gpu, out_of_memory
from gee_core.evolution.candidate import Failure
from gee_core.evolution.proxy import kind_of
from pipelines.runtime.input_errors import MEMORY, REMEDIES, known_message, report_input_errors


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.ENAMETOOLONG])
def test_a_refusal_names_the_file_the_reason_and_the_remedy(number):
    message = known_message(OSError(number, os.strerror(number), "models/train/network.json"))
    assert message == f"models/train/network.json: {os.strerror(number).lower()}: {REMEDIES[number]}"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_memory_that_is_not_there_is_one_line_with_a_remedy(error):
    assert out_of_memory(error)
    assert not lost_gpu(error)
    of_host = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    assert kind_of(error) is (Failure.MEMORY if of_host else Failure.GPU_MEMORY)
    assert "\n" not in known_message(error)
    assert known_message(error).startswith("out of memory (")
    assert known_message(error).endswith(MEMORY)


def test_every_line_of_a_message_names_the_command_and_has_no_password(capsys):
    with pytest.raises(SystemExit), report_input_errors("gee"):
        raise InputError("a\x1b[31m.png: damaged\nb\r.png: damaged\ntls://ada:sesame@host:1: away")
    lines = ["a\\x1b[31m.png: damaged", "b\\r.png: damaged", "tls://***@host:1: away"]
    assert capsys.readouterr().err == "".join(f"gee: error: {line}\n" for line in lines)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "x"), OSError("x"), RuntimeError("x"), ValueError("x")])
def test_a_bug_is_none(error):
    assert known_message(error) is None
    with pytest.raises(type(error)), report_input_errors("gee"):
        raise error
