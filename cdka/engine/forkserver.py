"""A process that has imported everything and does nothing: it forks a worker in milliseconds when one is needed.

It belongs to one dispatcher, whose end of a socket pair it holds: when that closes it leaves, its workers go on. A
dispatcher that closed it without a shutdown message was killed: the forkserver then starts another, so that a night's
queue goes on with nobody looking. It only imports. One tensor operation here would start torch's thread pool, and the
forked workers would hang in it; one CUDA call would leave them without a device.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cdka.engine import local, slots
from cdka.engine.process import HEARTBEAT_S, DispatcherWatch, dispatcher_pid, reap_group
from cdka.engine.slots import JobSpec
from cdka.engine.spawn import PING, PONG, SHUTDOWN
from cdka.engine.worker import die_of_signals, execute, exit_process, lower_priority
from cdka.errors import CdkaError
from cdka.runs.database import FILE_NAME, StoreBusy, StoreFull
from cdka.runs.store import Store

PRELOADED = (
    "cdka.train.loop",
    "cdka.train.data.digits",
    "transformers.models.auto.modeling_auto",
    "transformers.models.vit.modeling_vit",
    "transformers.models.llama.modeling_llama",
    "transformers.models.bert.modeling_bert",
    "peft.utils.transformers_weight_conversion",
    "pyarrow.dataset",
    "pyarrow.parquet",
)
"""Much is imported lazily, models above all: what a worker should find ready must be named."""
REAP_S = 0.05
LOCK_RELEASE_S = 5.0
QUICK_DEATH_S, MAX_QUICK_DEATHS = 60.0, 3
"""A dispatcher that dies this soon again and again has a reason to: it is left dead until somebody looks."""
_DEATHS = "CDKA_QUICK_DEATHS"


def preload(names: Sequence[str] = PRELOADED) -> None:
    """Import what workers need, and put it beyond the garbage collector so that forked copies share its memory."""
    for name in names:
        with suppress(ImportError):  # a worker that needs it will say so, in its own log
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _become_worker(job_spec: JobSpec, run: Callable[[JobSpec], int]) -> int:
    """In the fresh child: its own session, its own log, the slot's environment, then the job."""
    os.setsid()
    die_of_signals()
    log, nothing = job_spec.open_log(), os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    os.environ.update(slots.environment(job_spec.slot))
    lower_priority()
    return run(job_spec)


def _fork(job_spec: JobSpec, channel: socket.socket, run: Callable[[JobSpec], int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        channel.close()
        code = _become_worker(job_spec, run)
    except BaseException:
        with suppress(OSError):
            traceback.print_exc()
    finally:
        exit_process(code)  # never back into the forkserver's loop


def serve(channel: socket.socket, run: Callable[[JobSpec], int] = execute) -> bool:
    """Fork a worker per line received, and tell of its pid and of its end, until the other side closes.

    True if it sent the shutdown message before. A dispatcher that gives no sign of life for long is ended meanwhile.
    """
    children: dict[int, int] = {}
    received = b""
    dispatcher, watch = os.getppid(), DispatcherWatch(Path.cwd())
    _send(channel, {"ready": True})
    while True:
        if watch.hangs() and os.getppid() == dispatcher == dispatcher_pid(Path.cwd()):
            os.kill(dispatcher, signal.SIGKILL)
        if select.select([channel], [], [], REAP_S if children else HEARTBEAT_S)[0]:
            part = channel.recv(65536)
            if not part:
                return False
            *lines, received = (received + part).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if request == SHUTDOWN:
                    return True
                if request == PING:
                    _send(channel, PONG)
                    continue
                pid = _fork(JobSpec.from_json(request["job_spec"]), channel, run)
                children[pid] = request["number"]
                _send(channel, {"number": request["number"], "pid": pid})
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                reap_group(pid)  # a crashed worker's data loaders
                _send(channel, {"number": children.pop(pid), "exit": os.waitstatus_to_exitcode(status)})


def _send(channel: socket.socket, message: dict) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


def main(
    descriptor: int,
    names: Sequence[str] = PRELOADED,
    run: Callable[[JobSpec], int] = execute,
    dispatcher: Sequence[str] | None = None,
) -> None:
    """Preload, then serve the socket inherited as ``descriptor``; ``dispatcher`` is the command that starts one."""
    started, former = time.monotonic(), os.getppid()
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload(names)
    try:
        shut_down = serve(channel, run)
    except (BrokenPipeError, ConnectionResetError):
        shut_down = _was_shut_down(channel)
    channel.close()
    if not shut_down:
        _wait_for_lock_release(former)
        restart_dispatcher(time.monotonic() - started, dispatcher)


def _was_shut_down(channel: socket.socket) -> bool:
    """True where the shutdown message was among those sent before the other side closed."""
    received = b""
    with suppress(OSError):
        while part := channel.recv(65536):
            received += part
    return json.dumps(SHUTDOWN).encode() in received.split(b"\n")


def _wait_for_lock_release(dispatcher: int) -> None:
    """Wait until a killed dispatcher has let go of its lock: the system closes its socket first, as often as not."""
    deadline = time.monotonic() + LOCK_RELEASE_S
    with suppress(OSError):  # the home is gone
        while dispatcher_pid(Path.cwd()) == dispatcher and time.monotonic() < deadline:
            time.sleep(REAP_S)


def restart_dispatcher(lived_s: float, command: Sequence[str] | None = None) -> bool:
    """See that somebody moves the queue of this home, the working directory; True if a dispatcher was started."""
    deaths = int(os.environ.get(_DEATHS, "0")) + 1 if lived_s < QUICK_DEATH_S else 0
    os.environ[_DEATHS] = str(deaths)  # the next forkserver inherits it
    with suppress(CdkaError, OSError):  # the home is gone, or its store is in trouble: whoever looks is told
        if deaths <= MAX_QUICK_DEATHS and (Path.cwd() / FILE_NAME).is_file():
            try:
                return local.ensure_dispatcher(Store(Path.cwd()), command=command)
            except (StoreBusy, StoreFull):  # a dispatcher waits for these by itself
                return local.start_dispatcher(Path.cwd(), command)
    return False


if __name__ == "__main__":
    main(int(sys.argv[1]))
    exit_process(0)
