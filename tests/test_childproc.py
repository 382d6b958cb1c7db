"""A function called in a child process: its result, its progress, its errors in one line, and its end with ours."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from cdka import childproc
from cdka.childproc import ChildProcess, ChildTraceback, call, start_detached, stream
from cdka.errors import CdkaError

FUNCTIONS = """
import os, signal, subprocess, sys, time
from pathlib import Path
from cdka.errors import CdkaError

def double(number):
    print("printing is harmless")
    os.system("echo so is what a program prints")
    return {"doubled": 2 * number, "pid": os.getpid(), "stdin": sys.stdin.read()}

def count(upto):
    for number in range(upto):
        yield {"number": number}
    return upto

def refuse():
    raise CdkaError("the rule is so:\\ngot that.")

def break_down():
    raise ZeroDivisionError("one\\nline")

def die():
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def sleep(file=None):
    if file:
        Path(file).write_text(str(os.getpid()))
    time.sleep(60)

def progress_then_sleep(file):
    Path(file).write_text(str(os.getpid()))
    yield {"at": 1}
    time.sleep(60)

def greet():
    print(os.environ["GREETING"])

def write(file, text):
    print("into the log")
    Path(file).write_text(text)
"""


@pytest.fixture(autouse=True)
def _functions(tmp_path, monkeypatch):
    (tmp_path / "of_a_child.py").write_text(FUNCTIONS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def gone_within(pid: int, limit_s: float = 5.0) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def yield_from(streaming, seen):
    """The value that a generator returns; what it yields is added to ``seen``."""
    while True:
        try:
            seen.append(next(streaming))
        except StopIteration as end:
            return end.value


def test_the_result_comes_from_another_process_whatever_is_printed():
    answer = call("of_a_child:double", {"number": 21}, limit_s=30, failure="no double")
    assert answer["doubled"] == 42
    assert answer["pid"] != os.getpid()
    assert answer["stdin"] == ""


def test_a_request_larger_than_a_pipe_holds_arrives_whole(tmp_path):
    text = "line\n" * 200_000
    assert call("of_a_child:write", {"file": str(tmp_path / "out"), "text": text}, limit_s=30, failure="") is None
    assert (tmp_path / "out").read_text() == text


def test_progress_is_streamed_before_the_result():
    streaming = stream("of_a_child:count", {"upto": 3}, silence_limit_s=30, failure="no count")
    seen: list[dict] = []
    result = yield_from(streaming, seen)
    assert result == 3
    assert seen == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert call("of_a_child:count", {"upto": 3}, limit_s=30, failure="no count") == 3


def test_an_error_of_ours_arrives_as_it_was_raised_in_one_line():
    with pytest.raises(CdkaError) as caught:
        call("of_a_child:refuse", {}, limit_s=30, failure="unused")
    assert str(caught.value) == "the rule is so: got that."


def test_a_defect_is_one_line_and_keeps_its_traceback():
    with pytest.raises(CdkaError) as caught:
        call("of_a_child:break_down", {}, limit_s=30, failure="it could not be divided")
    assert str(caught.value) == "it could not be divided (ZeroDivisionError: one line)."
    assert isinstance(caught.value.__cause__, ChildTraceback)
    assert "in break_down" in str(caught.value.__cause__)


def test_a_child_that_is_killed_is_told_with_what_it_printed_last():
    with pytest.raises(CdkaError, match=r"it failed: its process ended with exit code -9\. Try again\.") as caught:
        call("of_a_child:die", {}, limit_s=30, failure="it failed")
    assert str(caught.value.__cause__) == "last words"


@pytest.mark.parametrize("function", ["of_a_child:nothing", "no_such_module:f"])
def test_a_function_that_is_not_there_is_a_defect(function):
    with pytest.raises(CdkaError, match="it failed"):
        call(function, {}, limit_s=30, failure="it failed")


def test_the_time_limit_ends_the_child(tmp_path):
    file, started = tmp_path / "pid", time.monotonic()
    with pytest.raises(CdkaError, match="it hangs: no answer within 2 s"):
        call("of_a_child:sleep", {"file": str(file)}, limit_s=2, failure="it hangs")
    assert time.monotonic() - started < 5
    assert gone_within(int(file.read_text()))


def test_silence_ends_a_stream(tmp_path):
    file = tmp_path / "pid"
    streaming = stream("of_a_child:progress_then_sleep", {"file": str(file)}, silence_limit_s=2, failure="it hangs")
    assert next(streaming) == {"at": 1}
    with pytest.raises(CdkaError, match="it hangs: no answer within 2 s"):
        next(streaming)
    assert gone_within(int(file.read_text()))


def test_a_stream_that_nobody_reads_on_ends_its_child(tmp_path):
    file = tmp_path / "pid"
    streaming = stream("of_a_child:progress_then_sleep", {"file": str(file)}, silence_limit_s=30, failure="it hangs")
    next(streaming)
    pid = int(file.read_text())
    assert psutil.pid_exists(pid)
    streaming.close()
    assert gone_within(pid)


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path):
    file = tmp_path / "pid"
    program = f"""
        from cdka.childproc import call
        call("of_a_child:sleep", {{"file": {str(file)!r}}}, limit_s=60, failure="")
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], env=childproc.python_environment())
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    pid = int(file.read_text())
    assert psutil.Process(pid).is_running()
    parent.kill()
    parent.wait()
    assert gone_within(pid)


def test_a_detached_function_logs_and_outlives_the_call(tmp_path):
    process = start_detached("of_a_child:write", {"file": str(tmp_path / "out"), "text": "x"}, log=tmp_path / "log")
    assert process.wait(30) == 0
    assert (tmp_path / "out").read_text() == "x"
    assert (tmp_path / "log").read_text() == "into the log\n"


def test_a_child_takes_more_environment_and_prints_where_it_is_told(tmp_path):
    with (tmp_path / "out").open("wb") as output:
        more = {"environment": {"GREETING": "hello"}, "output": output}
        with ChildProcess("of_a_child:greet", {}, failure="", **more) as child:
            assert child.receive(30, 30) == {"result": None}
    assert (tmp_path / "out").read_text() == "hello\n"
