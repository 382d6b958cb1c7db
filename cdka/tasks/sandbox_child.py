"""Inside the sandbox: give up rights, then run the program. Started by ``sandbox`` with ``python -I -S``.

One line of JSON comes on standard input: the source, the folder, the limits, and a secret. Standard output is the
channel to the parent: the secret is sent over it when the program has reached its end, and at no other time. Standard
library only.

The secret is in no file, argument or environment, only in a local variable of this process's first thread. The program
runs in a second thread that begins in C, so no frame leads there; what else would (ctypes, gc, tracing, /proc) is
refused by an audit hook, which cannot be removed, and by the rules of the kernel.
"""

from __future__ import annotations

import _thread
import builtins
import ctypes
import json
import os
import random
import resource
import struct
import sys
import time
import types
from collections import deque
from functools import partial
from operator import call
from typing import Any

_NEW_NAMESPACES = 0x20000000 | 0x40000000 | 0x08000000 | 0x00020000  # processes, network, IPC, mounts
_NEW_USER = 0x10000000
_BIND, _RECURSIVE, _PRIVATE, _DETACH = 4096, 16384, 1 << 18, 2
_READ_ONLY, _NO_SETUID, _AT_RECURSIVE, _AT_FDCWD = 1, 2, 0x8000, -100
_MOUNT_SETATTR, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 442, 444, 445, 446
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_READ = (1 << 0) | (1 << 2) | (1 << 3)  # execute, read a file, list a folder
_OF_FILES = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14)
_FIRST_UID = 1_879_048_192
_SECRETIVE = ("gc.", "ctypes.", "sys._current_", "sys.settrace", "sys.setprofile", "sys.monitoring.")
_NO_MODULES = ("ctypes", "_ctypes", "_testcapi", "_testinternalcapi", "_interpreters", "_xxsubinterpreters")
_DENIED = {  # changes of files that Landlock does not know, sockets, other processes, ways to more rights
    "x86_64": (
        0xC000003E,
        *(41, 90, 91, 92, 93, 94, 101, 132, 133, 161, 165, 166, 175, 188, 189, 190, 197, 198, 199, 235, 248, 249, 250),
        *(259, 260, 261, 268, 272, 280, 298, 308, 310, 311, 313, 321, 323, 425, 428, 429, 430, 438, 442, 452, 463, 466),
    ),
    "aarch64": (
        0xC00000B7,
        *(
            5,
            6,
            7,
            14,
            15,
            16,
            33,
            39,
            40,
            51,
            52,
            53,
            54,
            55,
            88,
            97,
            105,
            117,
            198,
            217,
            218,
            219,
            241,
            268,
            270,
            271,
        ),
        *(273, 280, 282, 425, 428, 429, 430, 438, 442, 452, 463, 466),
    ),
}
"""System calls refused, by machine; the first number is the kernel's own name of the machine."""


def readable() -> list[str]:
    """The places that Python and the system's libraries need."""
    own = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    return [path for path in dict.fromkeys([*own, "/usr", "/lib", "/lib64", "/bin"]) if os.path.exists(path)]


def limit(cpu_s: int, memory_bytes: int, file_bytes: int, processes: int) -> None:
    """Lower the limits for good."""
    wanted = {
        "RLIMIT_CPU": (cpu_s, cpu_s + 1),
        "RLIMIT_AS": (memory_bytes,) * 2,
        "RLIMIT_FSIZE": (file_bytes,) * 2,
        "RLIMIT_NOFILE": (64, 64),
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NPROC": (processes,) * 2,
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


def leave(libc: ctypes.CDLL, folder: str, disk_bytes: int) -> str | None:
    """Leave the files, the network and the other processes of this machine; the new working folder, None if refused.

    The root is a file system in memory of ``disk_bytes``, with what Python needs bound into it, read only: nothing
    else can be reached by a path, sockets included. In a process namespace of one's own nobody outside can be
    signalled, and whatever the program has started ends with the waiting process that is its first.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0 or libc.unshare(_NEW_NAMESPACES) != 0:
        if libc.unshare(_NEW_USER | _NEW_NAMESPACES) != 0:
            return None
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            try:
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
            except OSError:
                break
    try:
        work = _new_root(libc, folder, disk_bytes)
    except OSError:
        work = None
    _wait_for_child()
    _wait_for_child()
    return work


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _new_root(libc: ctypes.CDLL, root: str, disk_bytes: int) -> str:
    places = [*readable(), "/dev/null", "/dev/urandom"]
    _check(libc.mount(None, b"/", None, ctypes.c_ulong(_RECURSIVE | _PRIVATE), None))
    options = f"size={disk_bytes},nr_inodes=4096,mode=755".encode()
    _check(libc.mount(b"tmpfs", root.encode(), b"tmpfs", ctypes.c_ulong(_NO_SETUID), options))
    attributes = ctypes.create_string_buffer(struct.pack("QQQQ", _READ_ONLY | _NO_SETUID, 0, 0, 0))
    for place in places:
        target = root + place
        if os.path.islink(place):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.lexists(target):
                os.symlink(os.readlink(place), target)
            continue
        if os.path.isdir(place):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            open(target, "w").close()
        _check(libc.mount(place.encode(), target.encode(), None, ctypes.c_ulong(_BIND | _RECURSIVE), None))
        if not place.startswith("/dev"):
            arguments = _AT_FDCWD, target.encode(), _AT_RECURSIVE, attributes, ctypes.c_size_t(32)
            _check(libc.syscall(_MOUNT_SETATTR, *arguments))
    for name in ("/work", "/tmp", "/old"):
        os.makedirs(root + name, exist_ok=True)
        os.chmod(root + name, 0o777)
    os.chdir(root)
    _check(libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"old"))
    os.chdir("/")
    _check(libc.umount2(b"/old", _DETACH))
    os.rmdir("/old")
    os.chdir("/work")
    return "/work"


def _wait_for_child() -> None:
    """Go on in a child; the parent ends as the child does."""
    child = os.fork()
    if child == 0:
        return
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(status if status >= 0 else 128 - status)


def drop_privileges(libc: ctypes.CDLL) -> None:
    """Be nobody in particular: a user of the program's own where this is root, and no capability anywhere."""
    if os.geteuid() == 0:
        own = _FIRST_UID + random.SystemRandom().randrange(1 << 24)
        try:
            os.setgroups([])
            os.setresgid(own, own, own)
            os.setresuid(own, own, own)
        except (OSError, ValueError):
            pass  # the only user of its namespace
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    libc.capset(ctypes.create_string_buffer(header), ctypes.create_string_buffer(none))
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges, by setuid programs for one


def fence_files(libc: ctypes.CDLL, folder: str) -> None:
    """Landlock, all that this kernel has of it: everything in ``folder``, reading where Python lies, nothing else."""
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    handled = (1 << 13) - 1
    for since, right in ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15)):  # links to elsewhere, truncating, ioctl
        handled |= right if version >= since else 0
    rules = struct.pack("QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)  # TCP; sockets, signals
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.create_string_buffer(rules), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return
    places = {folder: handled, "/tmp": handled} if folder == "/work" else {folder: handled}
    places["/dev/null"] = (1 << 1) | (1 << 2) | (1 << 14)
    for path in [*readable(), "/dev/urandom"]:
        places.setdefault(path, _READ)
    for path, allowed in places.items():
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        allowed &= handled if os.path.isdir(path) else handled & _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", allowed, place))
        libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0)
        os.close(place)
    libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def refuse_calls(libc: ctypes.CDLL) -> None:
    """Refuse the system calls in ``_DENIED`` with EPERM (seccomp); nothing on machines that are not listed there."""
    machine, *numbers = _DENIED.get(os.uname().machine, (0,))
    if not numbers:
        return
    allow, refuse = (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, machine), refuse, (0x20, 0, 0, 0)]
    code += [(0x15, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    code += [allow, refuse]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(text)))
    libc.prctl(22, 2, program, 0, 0)


def keep_secret() -> None:
    """Refuse, for good, what reads the memory or the frames of other threads."""
    sys.modules["gc"] = types.ModuleType("gc")
    for name in ("collect", "enable", "disable", "freeze", "isenabled"):
        setattr(sys.modules["gc"], name, lambda *_: 0)
    for name in _NO_MODULES:
        sys.modules.pop(name, None)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_SECRETIVE) or (event == "import" and arguments[0] in (*_NO_MODULES, "gc")):
            raise PermissionError(f"{event} is out of reach here")
        if event == "open" and str(arguments[0]).startswith("/proc"):
            raise PermissionError("/proc is out of reach here")

    sys.addaudithook(refuse)


def execute(source: str, secret: bytes, channel: int) -> None:
    """Run the program as ``__main__`` in a thread of its own, and tell the parent when it has reached its end."""
    write, end, count, sleep = os.write, os._exit, _thread._count, time.sleep
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    begun: list[None] = []
    reached: list[None] = []
    code = compile(source, "program.py", "exec")
    steps = [partial(begun.append, None), partial(exec, code, main.__dict__), partial(reached.append, None)]
    keep_secret()
    _thread.start_new_thread(deque, (map(call, steps), 0))
    del steps, code, source
    while not reached and (count() or not begun):
        sleep(0.002)
    if reached:
        write(channel, secret)
    end(0 if reached else 1)


def main() -> None:
    """Give up rights, then run the program."""
    asked = json.loads(sys.stdin.buffer.readline())
    channel = os.dup(1)
    os.set_inheritable(channel, False)
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    folder = asked["folder"]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        folder = leave(libc, folder, asked["disk_bytes"]) or folder
        limit(asked["cpu_s"], asked["memory_bytes"], asked["file_bytes"], asked["processes"])
        drop_privileges(libc)
        fence_files(libc, folder)
        refuse_calls(libc)
    else:
        limit(asked["cpu_s"], asked["memory_bytes"], asked["file_bytes"], asked["processes"])
    os.environ["HOME"] = os.environ["TMPDIR"] = folder
    sys.argv = ["program.py"]
    execute(asked["source"], asked["secret"].encode(), channel)


if __name__ == "__main__":
    main()
