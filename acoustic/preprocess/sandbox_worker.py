"""The child of `sandbox`: reads a file from shared memory, answers with features or an error.

Before the first file it gives up what decoding does not need: sockets, programs, opening of files,
memory beyond a limit. On Linux for x86-64 and ARM64 the kernel enforces it (seccomp); elsewhere the
limits on files and memory remain.
"""

from __future__ import annotations

import ctypes
import json
import logging
import mmap
import os
import pickle
import platform
import resource
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoustic.errors import AcousticError, AudioDecodeError
from acoustic.example import example_wav
from acoustic.preprocess.cache import features_to_bytes
from acoustic.preprocess.preprocessor import Preprocessor
from acoustic.preprocess.ranged_file import (
    BytesMissingError,
    FileParts,
    RangesUnavailableError,
)

LENGTH = struct.Struct("<Q")
"""Length of a message, in front of it."""

MAX_FILES = 64

LATER_IMPORTS = (
    "acoustic.preprocess.decode_av", "av.subtitles.stream",
    "encodings.latin_1", "encodings.utf_16", "encodings.idna",
)  # fmt: skip
"""Modules that are otherwise imported when the first file needs them."""

PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 38, 4
EACCES, ENOSYS = 13, 38


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemCalls:
    """Numbers of system calls on one kind of machine.

    Attributes:
        architecture: the machine's number in the kernel's audit interface.
        forbidden: calls that fail with EACCES.
        frequent: calls that are allowed before any other comparison.
        seccomp: the call that installs the filter.
        clone: the call that starts threads, refused where it would start a process.
    """

    architecture: int
    forbidden: tuple[int, ...]
    frequent: tuple[int, ...]
    seccomp: int
    clone: int


MACHINES = {
    "x86_64": SystemCalls(
        architecture=0xC000003E,
        forbidden=(
            # open, openat, creat, openat2, open_by_handle_at, memfd_create
            2, 257, 85, 437, 304, 319,
            # socket, connect, accept, sendto, bind, listen, socketpair, accept4
            41, 42, 43, 44, 49, 50, 53, 288,
            # fork, vfork, execve, execveat, kill, tkill, tgkill
            57, 58, 59, 322, 62, 200, 234,
            # ptrace, process_vm_readv, process_vm_writev, perf_event_open, bpf, keyctl, add_key
            101, 310, 311, 298, 321, 250, 248,
            # rename, mkdir, rmdir, link, unlink, symlink, chmod, chown
            82, 83, 84, 86, 87, 88, 90, 92,
            # mount, unshare, setns
            165, 272, 308,
            # mkdirat, unlinkat, renameat, linkat, symlinkat, renameat2, io_uring_setup, userfaultfd
            258, 263, 264, 265, 266, 316, 425, 323,
            # truncate, mknod, mknodat, fchmodat, fchownat, utimensat
            76, 133, 259, 268, 260, 280,
            # pidfd_send_signal, pidfd_open, pidfd_getfd, rt_sigqueueinfo, rt_tgsigqueueinfo
            424, 434, 438, 129, 297,
            # prlimit64, setsid, setpgid
            302, 112, 109,
        ),
        # mmap, munmap, brk, madvise, futex, mremap, read, write
        frequent=(9, 11, 12, 28, 202, 25, 0, 1),
        seccomp=317,
        clone=56,
    ),
    "aarch64": SystemCalls(
        architecture=0xC00000B7,
        forbidden=(
            # openat, openat2, open_by_handle_at, memfd_create
            56, 437, 265, 279,
            # socket, socketpair, bind, listen, accept, connect, sendto, accept4
            198, 199, 200, 201, 202, 203, 206, 242,
            # execve, execveat, kill, tkill, tgkill
            221, 281, 129, 130, 131,
            # ptrace, process_vm_readv, process_vm_writev, perf_event_open, bpf, keyctl, add_key
            117, 270, 271, 241, 280, 219, 217,
            # mkdirat, unlinkat, symlinkat, linkat, renameat, renameat2, mount, unshare, setns
            34, 35, 36, 37, 38, 276, 40, 97, 268,
            # io_uring_setup, userfaultfd
            425, 282,
            # truncate, mknodat, fchmodat, fchownat, utimensat
            45, 33, 53, 54, 88,
            # pidfd_send_signal, pidfd_open, pidfd_getfd, rt_sigqueueinfo, rt_tgsigqueueinfo
            424, 434, 438, 138, 240,
            # prlimit64, setsid, setpgid
            261, 157, 154,
        ),
        frequent=(222, 215, 214, 233, 98, 216, 63, 64),
        seccomp=277,
        clone=220,
    ),
}  # fmt: skip
"""By the name of the machine; elsewhere no calls are filtered."""

LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, DENY, UNKNOWN = 0x7FFF0000, 0x00050000 | EACCES, 0x00050000 | ENOSYS
CLONE3, CLONE_THREAD = 435, 0x00010000
X32_BIT = 0x40000000
"""Set in the numbers of a second set of calls on x86-64."""

SET_MODE_FILTER, ALL_THREADS = 1, 1


def main() -> None:
    """Serve one parent, until it goes away."""
    channel, memory = int(sys.argv[1]), int(sys.argv[2])
    logging.disable(logging.CRITICAL)
    config, max_memory_bytes = pickle.loads(_read(channel))
    preprocessor = Preprocessor(config)
    _warm_up(preprocessor)
    confine(max_memory_bytes)
    _write(channel, {})
    shared = mmap.mmap(memory, 1, prot=mmap.PROT_READ)
    while True:
        request = json.loads(_read(channel))
        if len(shared) != request["capacity"]:
            shared.close()
            shared = mmap.mmap(memory, request["capacity"], prot=mmap.PROT_READ)
        _answer(channel, shared[: request["n_bytes"]], preprocessor, request)


def confine(max_memory_bytes: int) -> None:
    """Give up what decoding does not need; see the module.

    Args:
        max_memory_bytes: most memory beyond what the process has now.
    """
    now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    limit = now_bytes + max_memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))
    if sys.platform == "linux":
        _filter_calls()


def _filter_calls() -> None:
    calls = MACHINES.get(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if calls is None:
        return
    program = _program(calls)
    stored = ctypes.create_string_buffer(b"".join(program), 8 * len(program))
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(stored))
    filter_ = ctypes.create_string_buffer(head, len(head))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return
    # for all threads; refused in some containers: the other limits remain
    libc.syscall(calls.seccomp, SET_MODE_FILTER, ALL_THREADS, filter_)


def _program(calls: SystemCalls) -> list[bytes]:
    """Instructions of a BPF program over `struct seccomp_data`."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, value)

    steps = [
        step(LOAD, 4),  # the architecture: numbers of another one mean other calls
        step(JUMP_EQUAL, calls.architecture, 1, 0),
        step(RETURN, DENY),
        step(LOAD, 0),  # the number of the call
    ]
    for number in calls.frequent:
        steps += [step(JUMP_EQUAL, number, 0, 1), step(RETURN, ALLOW)]
    steps += [
        step(JUMP_SET, X32_BIT, 0, 1),
        step(RETURN, DENY),
        step(JUMP_EQUAL, CLONE3, 0, 1),  # its flags are in memory; libraries fall back to clone
        step(RETURN, UNKNOWN),
        step(JUMP_EQUAL, calls.clone, 0, 4),
        step(LOAD, 16),  # its flags: a thread is allowed, another process is not
        step(JUMP_SET, CLONE_THREAD, 1, 0),
        step(RETURN, DENY),
        step(RETURN, ALLOW),
    ]
    for number in calls.forbidden:
        steps += [step(JUMP_EQUAL, number, 0, 1), step(RETURN, DENY)]
    return [*steps, step(RETURN, ALLOW)]


def _warm_up(preprocessor: Preprocessor) -> None:
    """Import and prepare what files need: afterwards no file can be opened."""
    import importlib

    for name in LATER_IMPORTS:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    preprocessor.process(example_wav(), "fast")


def _answer(channel: int, data: bytes, preprocessor: Preprocessor, request: dict[str, Any]) -> None:
    effort, number = request["effort"], request["round"]
    try:
        if request["parts"] is None:
            features = preprocessor.process(data, effort, number)
        else:
            parts = FileParts(*request["parts"])
            features = preprocessor.process_parts(data, parts, effort, number)
    except BytesMissingError as error:
        _write(channel, {"missing": error.ranges})
    except RangesUnavailableError:
        _write(channel, {"missing": []})
    except AcousticError as error:
        _write(channel, {"error": error.code, "message": error.message})
    except MemoryError:
        limit = AudioDecodeError("the audio cannot be decoded within the memory for one file")
        _write(channel, {"error": limit.code, "message": limit.message})
    else:
        content = features_to_bytes(features)
        _write(channel, {"n_bytes": len(content), "timings_ms": features.timings_ms}, content)


def _read(channel: int) -> bytes:
    return _exactly(channel, LENGTH.unpack(_exactly(channel, LENGTH.size))[0])


def _exactly(channel: int, n: int) -> bytes:
    parts = bytearray()
    while len(parts) < n:
        part = os.read(channel, n - len(parts))
        if not part:
            os._exit(0)  # the parent is gone
        parts += part
    return bytes(parts)


def _write(channel: int, head: dict[str, Any], content: bytes = b"") -> None:
    text = json.dumps(head).encode()
    left = memoryview(LENGTH.pack(len(text)) + text + content)
    while left:
        left = left[os.write(channel, left) :]
