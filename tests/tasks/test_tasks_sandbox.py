"""The sandbox: what a program may do, what it may not, and that it cannot fake success."""

from __future__ import annotations

import os
import re
import socket
import sys
import time

import pytest

from cdka.errors import CdkaError
from cdka.tasks import sandbox
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


CHEATS = {
    "frames": "import sys\nf = sys._getframe()\nwhile f.f_back: f = f.f_back\nprint(f.f_locals)",
    "traceback": "try:\n  1 / 0\nexcept Exception as e:\n  f = e.__traceback__.tb_frame\n  assert f.f_back is None",
    "threads": "import sys\nprint([f.f_locals for f in sys._current_frames().values()])",
    "objects": "import gc\nprint([o for o in gc.get_objects() if isinstance(o, list)])",
    "ctypes": "import ctypes\nprint(ctypes.string_at(id('x'), 100))",
    "subclasses": "c = next(c for c in object.__subclasses__() if c.__name__ == 'CDLL')\nc(None)",
    "trace": "import sys\nsys.settrace(print)",
    "memory": "open('/proc/self/mem', 'rb').read(1)",
    "arguments": "import os\nprint(open('/proc/self/cmdline').read(), os.environ)",
    "channel": "import os\nfor fd in range(3, 64):\n  try:\n    os.write(fd, b'a' * 48)\n  except OSError: pass",
    "builtins": "import os, builtins\nos._exit = lambda *_: None\nbuiltins.exec = print",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_program_cannot_say_by_itself_that_it_has_passed(cheat):
    """It may print what it finds: 48 hexadecimal digits in its output would be the secret."""
    program = f"try:\n{_indented(CHEATS[cheat])}\nexcept Exception as e:\n  print(type(e))\nraise SystemExit(0)"
    verdict = run_program(program, TIGHT)
    assert verdict.outcome == FAILED
    assert not re.search(r"[0-9a-f]{48}", verdict.detail)


def _indented(text):
    return "\n".join("  " + line for line in text.splitlines())


CHANGES = {
    "truncate": "os.truncate({p!r}, 0)",
    "open": "open({p!r}, 'r+').truncate(0)",
    "chmod": "os.chmod({p!r}, 0)",
    "chown": "os.chown({p!r}, 1, 1)",
    "utime": "os.utime({p!r}, (1, 1))",
    "xattr": "os.setxattr({p!r}, 'user.x', b'x')",
    "link": "os.link({p!r}, 'here')",
    "rename": "os.rename({p!r}, 'here')",
    "unlink": "os.unlink({p!r})",
    "read": "open({p!r}).read()",
    "socket": "import socket; s = socket.socket(socket.AF_UNIX); s.connect({s!r})",
}


@pytest.mark.skipif("files" not in protections(), reason="this system fences no files in")
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_outside_is_changed_read_or_spoken_to(tmp_path, change):
    file, address = tmp_path / "kept", str(tmp_path / "s")
    file.write_text("kept")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o777)
    file.chmod(0o666)
    before = (file.stat().st_mode, file.stat().st_mtime_ns, file.stat().st_uid)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        verdict = run_program("import os\n" + CHANGES[change].format(p=str(file), s=address), TIGHT)
    assert verdict.outcome == FAILED
    assert "Error" in verdict.detail
    assert file.read_text() == "kept"
    assert (file.stat().st_mode, file.stat().st_mtime_ns, file.stat().st_uid) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts them")
def test_processes_memory_and_disk_have_limits_in_all():
    bomb = "import os, time\nfor _ in range(400):\n  if os.fork() == 0: time.sleep(30)\ntime.sleep(30)"
    assert run_program(bomb, Limits(wall_s=20.0)).outcome == FAILED
    shares = (
        "import os, time\nfor _ in range(8):\n  if os.fork() == 0:\n    x = b'x' * (100 << 20)\n    time.sleep(30)\n"
        "time.sleep(30)"
    )
    verdict = run_program(shares, Limits(wall_s=20.0, memory_bytes=400 << 20))
    assert (verdict.outcome, "memory" in verdict.detail) == (FAILED, True), verdict
    files = "for i in range(64):\n  open(f'f{i}', 'wb').write(bytes(1 << 19))\n"
    verdict = run_program(files, Limits(wall_s=20.0, disk_bytes=4 << 20))
    assert verdict.outcome == FAILED
    assert "No space" in verdict.detail or "files in all" in verdict.detail


def test_a_machine_that_fences_nothing_in_is_refused_unless_forced(monkeypatch):
    monkeypatch.setattr(sandbox, "protections", lambda: ("processes",))
    with pytest.raises(CdkaError, match="out of reach here: processes"):
        sandbox.check_protections()
    assert sandbox.check_protections(forced=True) == ("processes",)


def test_many_programs_keep_their_order():
    verdicts = run_programs(["assert True", "assert False", "pass"], TIGHT, workers=2)
    assert [v.outcome for v in verdicts] == [PASSED, FAILED, PASSED]
