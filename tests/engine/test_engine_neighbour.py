"""Another local user tries everything against a home with runs at work and a Studio: all is refused, no run is lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest
from ledger import tries

NOBODY = 65534

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become another user"
)


def as_another_user(act):
    """What ``act()`` returns (plain data) in a child process that has become another user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            answer = {"answer": act()}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        with os.fdopen(writer, "w") as out:
            out.write(json.dumps(answer))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as text:
        told = json.loads(text.read())
    os.waitpid(pid, 0)
    assert "error" not in told, told["error"]
    return told["answer"]


def attacks(home: Path, pids: list[int], port: int, token: str) -> dict[str, object]:
    """What came of each attack, by name; an empty dictionary where all were refused."""
    won: dict[str, object] = {}

    def attempt(name, act):
        with contextlib.suppress(OSError, sqlite3.Error):
            won[name] = str(act())[:200]

    files = ("runs.sqlite3", "runs.sqlite3-wal", "studio-token", "engine/dispatcher.lock", "engine/dispatcher.log")
    attempt("list the home", lambda: os.listdir(home))
    attempt("make a file", lambda: (home / "mine").touch())
    attempt("make a folder", lambda: (home / "runs" / "mine").mkdir())
    attempt("move the home away", lambda: home.rename(home.parent / "gone"))
    attempt("remove the store", lambda: (home / files[0]).unlink())
    attempt("open the rights", lambda: home.chmod(0o777))
    for name in files:
        attempt(f"read {name}", (home / name).read_bytes)
        attempt(f"write {name}", lambda name=name: (home / name).open("ab").write(b"x"))
    attempt("ask the store", lambda: sqlite3.connect(home / files[0]).execute("SELECT count(*) FROM runs").fetchone())
    for pid in pids:
        for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
            attempt(f"signal {number} to {pid}", lambda pid=pid, number=number: os.kill(pid, number))
        for secret in ("environ", "mem", "cwd", "fd/0"):
            path = f"/proc/{pid}/{secret}"
            attempt(f"look at {secret} of {pid}", lambda path=path: os.close(os.open(path, os.O_RDONLY)))
        attempt(f"list files of {pid}", lambda pid=pid: os.listdir(f"/proc/{pid}/fd"))
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if token.encode() in (process / "cmdline").read_bytes():
                    won[f"the token among the arguments of {process.name}"] = token
    for name, request in {
        "page": b"GET / HTTP/1.1",
        "made-up token": b"GET /?token=" + b"0" * len(token) + b" HTTP/1.1",
        "file of the page": b"GET /static/index.html HTTP/1.1",
        "media": b"GET /media/x.csv HTTP/1.1",
        "upload": b"PUT /_stcore/upload_file/x/y HTTP/1.1",
        "session": b"GET /_stcore/stream HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket"
        b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    }.items():
        with socket.socket() as connection:  # create_connection imports what another user may not read here
            connection.settimeout(60)
            connection.connect(("127.0.0.1", port))
            connection.sendall(request + b"\r\nHost: 127.0.0.1:%d\r\nContent-Length: 0\r\n\r\n" % port)
            status = connection.recv(64).split()[1:2]
        if status != [b"403"]:
            won[f"the Studio's {name}"] = str(status)
    return won


@pytest.fixture(scope="module")
def neighbourhood():
    """A folder that every user may enter, with a home in it, whose Studio listens: (home, port, token)."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cdka-neighbour-") as name:
        place = Path(name)
        place.chmod(0o755)
        home = place / "home"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        printed = os.open(place / "printed", os.O_RDWR | os.O_CREAT, 0o600)
        studio = subprocess.Popen(
            [sys.executable, "-m", "cdka", "studio", "--no-browser", "--port", str(port)],
            env={**os.environ, "CDKA_HOME": str(home)},
            stdout=printed,
            stderr=printed,
            umask=0,  # the rights must not come from a careful user alone
        )
        try:
            deadline = time.monotonic() + 120
            while True:
                assert studio.poll() is None, (place / "printed").read_text()
                assert time.monotonic() < deadline
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                time.sleep(0.2)
            yield home, port, studio.pid
        finally:
            studio.kill()
            studio.wait()
            os.close(printed)


@pytest.fixture
def careless():
    """Files are made as openly as programs ask for."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("number", tries())
def test_another_local_user_reaches_nothing_and_ends_nothing(neighbourhood, make_engine, careless, number):
    home, port, studio_pid = neighbourhood
    engine = make_engine(name=str(home))
    run_ids = engine.submit(*[engine.spec(steps=40, pace_s=0.01) for _ in range(3)], engine.spec(steps=2))
    engine.at_step(run_ids[0], 1 + number)
    token = (home / "studio-token").read_text()
    (link,) = re.findall(r"http://\S+token=(\w+)", (home.parent / "printed").read_text())
    assert link == token
    engine.fault("another local user: files, processes, the Studio's port")
    pids = [studio_pid, *(process.pid for process in engine.processes())]
    assert len(pids) >= 4
    assert as_another_user(lambda: attacks(home, pids, port, token)) == {}
    runs = engine.wait(*run_ids)
    assert [(run.status, run.attempt) for run in runs] == [("done", 1)] * 4
    engine.check()
    engine.stop()


ANSWERS_ALL = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    connection, _ = listener.accept()
    connection.recv(999)
    connection.sendall(b"HTTP/1.1 200 OK")
    connection.close()
"""


def test_the_attacks_find_an_open_home():
    """The proof that they can succeed: where a folder is open, they read it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cdka-open-") as name, socket.socket() as listener:
        home = Path(name)
        home.chmod(0o777)
        (home / "runs").mkdir()
        (home / "runs").chmod(0o777)
        (home / "studio-token").write_text("t" * 48)
        (home / "studio-token").chmod(0o644)
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        arguments = [sys.executable, "-c", ANSWERS_ALL, str(listener.fileno()), "t" * 48]
        child = subprocess.Popen(arguments, pass_fds=[listener.fileno()])
        try:
            won = as_another_user(lambda: attacks(home, [], listener.getsockname()[1], "t" * 48))
        finally:
            child.kill()
            child.wait()
    for expected in ("list the home", "make a file", "read studio-token", "the Studio's session"):
        assert expected in won, won
    assert f"the token among the arguments of {child.pid}" in won
