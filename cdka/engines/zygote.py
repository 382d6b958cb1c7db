"""A process that has imported everything and does nothing: it forks a worker in milliseconds when one is needed.

It belongs to one dispatcher, whose end of a socket pair it holds: when that closes it leaves, its workers go on. It
only imports. One tensor operation here would start torch's thread pool, and the forked workers would hang in it; one
CUDA call would leave them without a device.
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
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress

from cdka.engines import slots
from cdka.engines.process import reap_group
from cdka.engines.worker import Order, execute, leave, yield_to_others

PRELOADED = (
    "cdka.finetune.loop",
    "cdka.tasks.digits",
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


def preload(names: Sequence[str] = PRELOADED) -> None:
    """Import what workers need, and put it beyond the garbage collector so that forked copies share its memory."""
    for name in names:
        with suppress(ImportError):  # a worker that needs it will say so, in its own log
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _become_worker(order: Order, run: Callable[[Order], int]) -> int:
    """In the fresh child: its own session, its own log, the slot's environment, then the job."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log, nothing = order.open_log(), os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    os.environ.update(slots.environment(order.slot))
    yield_to_others()
    return run(order)


def _fork(order: Order, channel: socket.socket, run: Callable[[Order], int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        channel.close()
        code = _become_worker(order, run)
    except BaseException:
        with suppress(OSError):
            traceback.print_exc()
    finally:
        leave(code)  # never back into the zygote's loop


def serve(channel: socket.socket, run: Callable[[Order], int] = execute) -> None:
    """Fork a worker per line received, and tell of its pid and of its end, until the other side closes."""
    children: dict[int, int] = {}
    received = b""
    _send(channel, {"ready": True})
    while True:
        if select.select([channel], [], [], REAP_S if children else None)[0]:
            part = channel.recv(65536)
            if not part:
                return
            *lines, received = (received + part).split(b"\n")
            for line in lines:
                request = json.loads(line)
                pid = _fork(Order.from_json(request["order"]), channel, run)
                children[pid] = request["number"]
                _send(channel, {"number": request["number"], "pid": pid})
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                reap_group(pid)  # a crashed worker's data loaders
                _send(channel, {"number": children.pop(pid), "exit": os.waitstatus_to_exitcode(status)})


def _send(channel: socket.socket, message: dict) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


def main(descriptor: int, names: Sequence[str] = PRELOADED, run: Callable[[Order], int] = execute) -> None:
    """Preload, then serve the socket inherited as ``descriptor``."""
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload(names)
    with suppress(BrokenPipeError, ConnectionResetError):  # the dispatcher is gone; its workers go on without us
        serve(channel, run)


if __name__ == "__main__":
    main(int(sys.argv[1]))
    leave(0)
