"""Inside the sandbox: give up rights, then run the program. Started by ``sandbox`` with ``python -I -S``.

Arguments: processor seconds, bytes of memory, bytes per file, the folder, the program. Standard library only, and
nothing imported that the program could use to get its rights back.
"""

from __future__ import annotations

import ctypes
import os
import resource
import runpy
import sys

_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ = (1 << 0) | (1 << 2) | (1 << 3)  # execute, read a file, list a folder
_ALL_OF_FIRST_ABI = (1 << 13) - 1


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _Below(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def limit(cpu_s: int, memory_bytes: int, file_bytes: int) -> None:
    """Lower the limits for good."""
    wanted = {
        "RLIMIT_CPU": (cpu_s, cpu_s + 1),
        "RLIMIT_AS": (memory_bytes,) * 2,
        "RLIMIT_FSIZE": (file_bytes,) * 2,
        "RLIMIT_NOFILE": (64, 64),
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NPROC": (64, 64),
    }
    for name, values in wanted.items():
        if not hasattr(resource, name):
            continue
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            values = min(values[0], hard), min(values[1], hard)
        try:
            resource.setrlimit(kind, values)
        except (ValueError, OSError):
            continue  # macOS knows RLIMIT_AS but does not let it be set


def leave(libc: ctypes.CDLL) -> None:
    """Leave the network and the sight of other processes; where that is refused, nothing changes.

    A network namespace of one's own holds no interface that is up. In a process namespace of one's own nobody outside
    can be signalled, and whatever the program has started ends with the waiting process that is its first.
    """
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWPID | _CLONE_NEWNET) != 0:
        return
    _wait_for_child()
    _wait_for_child()


def _wait_for_child() -> None:
    """Go on in a child; the parent ends as the child does."""
    child = os.fork()
    if child == 0:
        return
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(status if status >= 0 else 128 - status)


def fence_files(libc: ctypes.CDLL, folder: str) -> None:
    """Landlock: everything in ``folder``, reading where Python and the system's libraries lie, nothing else."""
    handled = _Ruleset(_ALL_OF_FIRST_ABI)
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if ruleset < 0:
        return
    places = {folder: _ALL_OF_FIRST_ABI, "/dev/null": _ALL_OF_FIRST_ABI & ~_READ | (1 << 2) | (1 << 1)}
    for path in (
        sys.prefix,
        sys.base_prefix,
        os.path.dirname(os.path.realpath(sys.executable)),
        "/usr",
        "/lib",
        "/lib64",
        "/dev/urandom",
        os.path.dirname(os.path.abspath(__file__)),
    ):
        places.setdefault(path, _READ)
    for path, allowed in places.items():
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):
            allowed &= (1 << 0) | (1 << 1) | (1 << 2)
        rule = _Below(allowed, place)
        libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
        os.close(place)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def main(argv: list[str]) -> None:
    """Give up rights and run the program as ``__main__``."""
    cpu_s, memory_bytes, file_bytes, folder, program = argv
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        leave(libc)
        fence_files(libc, folder)
    limit(int(cpu_s), int(memory_bytes), int(file_bytes))
    sys.argv = [program]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
