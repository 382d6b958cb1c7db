"""Call a function in a child process: JSON in, JSON lines out, a time limit, errors in one line.

A child is used where the caller must stay free of torch, must be able to give up on work that never returns, or must
be cancelled at once. Every attached child ends with its parent, however the parent ends: the parent holds the write
end of the child's standard input, and the child leaves when that closes.

The function is named ``"module:function"`` and called with the request as keyword arguments. It returns the result;
a generator function yields progress (a dict each) before it returns. It may print: its standard output goes where its
standard error goes, only the answers travel on the pipe.
"""

from __future__ import annotations

import inspect
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

from cdka.errors import CdkaError

MAX_CAUSE_CHARS = 300


class ChildTraceback(Exception):
    """The traceback or the last output of a child that failed by a defect; the cause of the CdkaError raised."""


def python_environment() -> dict[str, str]:
    """The environment in which a fresh interpreter finds this very package, also from a source tree.

    torch takes large tensors from huge pages where the system has them: a language model's step touches a million small
    ones otherwise, each of which the system has to clear.
    """
    environment = {"THP_MEM_ALLOC_ENABLE": "1", **os.environ}
    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").is_file():
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), environment.get("PYTHONPATH"))))
    return environment


def call(function: str, request: Mapping[str, Any], *, limit_s: float, failure: str) -> Any:
    """The result of ``function(**request)``, run in a child process that has ``limit_s`` seconds.

    ``failure`` begins the message of a child that crashed or took too long: "the tokens of 'x' could not be shown".
    Raises CdkaError for these, and with the child's own message where the child raised one.
    """
    with ChildProcess(function, request, failure=failure) as child:
        deadline = time.monotonic() + limit_s
        while "result" not in (message := child.receive(deadline - time.monotonic(), limit_s)):
            pass
        return message["result"]


def stream(
    function: str, request: Mapping[str, Any], *, silence_limit_s: float, failure: str
) -> Generator[dict[str, Any], None, Any]:
    """Yields the progress of ``function(**request)`` and returns its result; closing the generator ends the child.

    Raises CdkaError as ``call`` does, and where the child sends nothing for ``silence_limit_s`` seconds.
    """
    with ChildProcess(function, request, failure=failure) as child:
        while "result" not in (message := child.receive(silence_limit_s, silence_limit_s)):
            yield message["progress"]
        return message["result"]


def start_detached(function: str, request: Mapping[str, Any], *, log: Path) -> subprocess.Popen[bytes]:
    """Start ``function(**request)`` in a process that outlives this one and writes its output to ``log``.

    Its result is dropped: such a function leaves what it finds in files. The process is returned to be reaped.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(function, "detached"),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=python_environment(),
        )
    with _input_of(process) as pipe:
        _send(pipe, request)
    return process


class ChildProcess:
    """One attached child: a context manager that kills the child on exit.

    ``environment`` is added to the child's own. ``output`` takes what it prints and its tracebacks (a file, or a
    descriptor as 2); by default they are kept aside and shown where the child crashes.
    """

    def __init__(
        self,
        function: str,
        request: Mapping[str, Any],
        *,
        failure: str,
        environment: Mapping[str, str] | None = None,
        output: IO | int | None = None,
    ) -> None:
        self._failure = failure
        self._aside = tempfile.TemporaryFile() if output is None else None  # noqa: SIM115 (closed by close)
        self._process = subprocess.Popen(
            _command(function, "attached"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._aside if output is None else output,
            env={**python_environment(), **(environment or {})},
        )
        self._input = _input_of(self._process)
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        _send(self._input, request)

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def receive(self, timeout_s: float, limit_s: float) -> dict[str, Any]:
        """The next message, ``{"progress": dict}`` or ``{"result": value}``, waited for at most ``timeout_s``.

        Raises CdkaError where none comes, naming the limit ``limit_s``; where the child raised a CdkaError; and
        where it crashed.
        """
        try:
            message = self._messages.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            raise CdkaError(f"{self._failure}: no answer within {limit_s:g} s. Try again.") from None
        if message is None:
            code, last = self._process.wait(), self._last_output()
            raise CdkaError(f"{self._failure}: its process ended with exit code {code}. Try again.") from (
                ChildTraceback(last) if last else None
            )
        if "error" in message:
            raise CdkaError(message["error"])
        if "crash" in message:
            raise CdkaError(f"{self._failure} ({message['crash']}).") from ChildTraceback(message["traceback"])
        return message

    def poll(self) -> int | None:
        """The exit code; None while the child is at work."""
        return self._process.poll()

    def close(self) -> None:
        """Kill the child if it still runs, and free what belongs to it."""
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._input.close()
        if self._aside is not None:
            self._aside.close()

    def _read(self) -> None:
        with cast("IO[bytes]", self._process.stdout) as lines:
            for line in lines:
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def _last_output(self) -> str:
        if self._aside is None:
            return ""
        self._aside.seek(max(0, self._aside.seek(0, os.SEEK_END) - 4000))
        return self._aside.read().decode("utf-8", errors="replace").strip()


def _command(function: str, mode: str) -> list[str]:
    return [sys.executable, "-m", "cdka.childproc", function, mode]


def _input_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", process.stdin)  # started with a pipe


def _send(pipe: IO[bytes], request: Mapping[str, Any]) -> None:
    with suppress(BrokenPipeError):  # it is gone already: whoever waits for its answer finds out why
        pipe.write(json.dumps(dict(request)).encode() + b"\n")
        pipe.flush()


# In the child:


def _leave_with_parent(lifeline: int) -> None:
    while os.read(lifeline, 4096):
        pass
    os._exit(1)


def _answer(function: str, request: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
    """The messages that running ``function`` gives, its errors included."""
    try:
        module, _, name = function.partition(":")
        result = getattr(import_module(module), name)(**request)
        if inspect.isgenerator(result):
            while True:
                try:
                    yield {"progress": next(result)}
                except StopIteration as end:
                    result = end.value
                    break
        yield {"result": result}
    except CdkaError as error:
        yield {"error": " ".join(str(error).split())}
    except Exception as error:
        traceback.print_exc()
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_CAUSE_CHARS]
        yield {"crash": cause.rstrip("."), "traceback": traceback.format_exc()}


def _attach() -> Callable[[dict[str, Any]], None]:
    """Keep standard input and output for the parent alone, and return the function that sends it a message."""
    lifeline, answers = os.dup(0), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    threading.Thread(target=_leave_with_parent, args=(lifeline,), daemon=True).start()

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    return send


def main(function: str, mode: str) -> None:
    """Read one request from standard input, answer it, and leave at once, whatever threads still run."""
    request = json.loads(sys.stdin.buffer.readline())
    send = _attach() if mode == "attached" else None
    code = 1
    for message in _answer(function, request):
        sys.stdout.flush()
        sys.stderr.flush()  # before the last message: the parent kills this process once it has the result
        code = 0 if "result" in message else 1
        if send is not None:
            send(message)
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
