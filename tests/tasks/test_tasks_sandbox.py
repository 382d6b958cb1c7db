"""The sandbox: what a program may do, what it may not, and that it cannot fake success."""

from __future__ import annotations

import os
import socket
import sys
import time

import pytest

from cdka.tasks.sandbox import FAILED, PASSED, TIMEOUT, Limits, protections, run_program, run_programs

TIGHT = Limits(cpu_s=1, wall_s=3.0, memory_bytes=256 << 20, file_bytes=1 << 16)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the sandbox needs a POSIX system")


def test_a_program_that_reaches_its_end_has_passed():
    assert run_program("import math\nassert math.comb(5, 2) == 10", TIGHT).outcome == PASSED


def test_an_error_is_told_by_its_last_line():
    verdict = run_program("assert 1 == 2, 'one is not two'", TIGHT)
    assert (verdict.outcome, verdict.detail) == (FAILED, "AssertionError: one is not two")


@pytest.mark.parametrize(
    "leave", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit", "quit = 1/0"]
)
def test_leaving_early_is_not_success(leave):
    assert run_program(f"{leave}\nassert False", TIGHT).outcome == FAILED


def test_a_program_cannot_guess_the_mark_of_success():
    assert run_program("print('reached the end')\nimport os; os._exit(0)", TIGHT).outcome == FAILED


def test_an_endless_loop_meets_the_processor_limit_and_a_sleeper_the_wall_limit():
    started = time.monotonic()
    assert run_program("while True: pass", TIGHT).outcome == TIMEOUT
    assert run_program("import time; time.sleep(60)", Limits(wall_s=1.0)).outcome == TIMEOUT
    assert time.monotonic() - started < 30


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_memory_is_limited():
    assert "MemoryError" in run_program("x = bytearray(1 << 30)", TIGHT).detail


def test_a_file_cannot_grow_without_end():
    program = "f = open('big', 'wb')\nfor _ in range(64): f.write(bytes(1 << 16)); f.flush()"
    assert run_program(program, TIGHT).outcome == FAILED


def test_files_that_stay_within_the_limits_can_be_written_and_are_gone_afterwards():
    verdict = run_program("open('note', 'w').write('x')\nimport os; assert os.path.exists('note')", TIGHT)
    assert verdict.outcome == PASSED


def test_the_environment_is_not_handed_on(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert run_program("import os; assert 'HF_TOKEN' not in os.environ", TIGHT).outcome == PASSED


@pytest.mark.skipif("network" not in protections(), reason="this kernel gives no network namespace to ordinary users")
def test_the_network_is_out_of_reach():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2)"
        assert run_program(program, TIGHT).outcome == FAILED


@pytest.mark.skipif("files" not in protections(), reason="this kernel offers no Landlock")
def test_files_outside_are_out_of_reach(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert run_program(f"open({str(secret)!r}).read()", TIGHT).outcome == FAILED
    assert run_program(f"open({str(tmp_path / 'new')!r}, 'w')", TIGHT).outcome == FAILED
    assert not (tmp_path / "new").exists()


def test_what_a_program_started_ends_with_it(tmp_path):
    program = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)  # left-behind-by-a-test'])\n"
    )
    run_program(program, Limits(cpu_s=2, wall_s=5.0))
    left = (
        [p for p in os.listdir("/proc") if p.isdigit() and _command_of(p).find("left-behind-by-a-test") >= 0]
        if (os.path.isdir("/proc"))
        else []
    )
    assert not left


def _command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def test_many_programs_keep_their_order():
    verdicts = run_programs(["assert True", "assert False", "pass"], TIGHT, workers=2)
    assert [v.outcome for v in verdicts] == [PASSED, FAILED, PASSED]
