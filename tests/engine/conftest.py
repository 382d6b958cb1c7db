"""A home with the real engine around a fake training loop, and proof that no process outlives its test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import fake_engine
import psutil
import pytest
from ledger import LEDGER, Damage

from cdka.engine import local
from cdka.engine.process import process_start
from cdka.runs.spec import RunSpec
from cdka.runs.states import LIVE
from cdka.runs.store import Store


class Engine:
    """One home: its store, its processes, and what a test does to them."""

    def __init__(self, home: Path, role: str = "dispatcher") -> None:
        self.home, self.store, self.command = home, Store(home), fake_engine.command(role)
        self.asked: set[str] = set()
        self._faults: set[str] = set()
        self._audited: set[str] = set()

    def fault(self, name: str, times: int = 1) -> None:
        """Note that this fault is inflicted now; what ``check`` finds afterwards is put down to it."""
        self._faults.add(name)
        LEDGER.tried(name, times)

    def spec(self, steps: int = 5, *, device: str = "auto", checkpoint_every: int = 0, **options) -> RunSpec:
        """A run of the fake loop; ``options`` are ``pace_s``, ``act``, ``at``."""
        return RunSpec(
            "digits-vit",
            "digits-flip",
            steps=steps,
            eval_every=2,
            device=device,
            checkpoint_every=checkpoint_every,
            task_options=options,
        )

    def submit(self, *specs: RunSpec, **more) -> list[str]:
        run_ids = self.store.submit(list(specs), **more)
        self.asked.update(run_ids)
        self.ensure()
        return run_ids

    def ensure(self) -> None:
        local.ensure_dispatcher(self.store, command=self.command)

    def wait(self, *run_ids: str, s: float = 40.0):
        """The runs once all have finished; a dispatcher that dies is replaced, as every client does."""
        return self.until(
            lambda: [run for run in self.store.runs(ids=run_ids) if run.status.is_finished()],
            lambda runs: len(runs) == len(run_ids),
            s=s,
        )

    def until(self, look: Callable, true: Callable = bool, s: float = 40.0):
        """What ``look`` returns as soon as ``true`` of it."""
        deadline, ensured = time.monotonic() + s, 0.0
        while True:
            seen = look()
            if true(seen):
                return seen
            assert time.monotonic() < deadline, f"waited {s} s in vain: {seen}, {self.store.runs()}, {self.log()}"
            if time.monotonic() - ensured > 0.5:
                ensured = time.monotonic()
                self.ensure()
            time.sleep(0.02)

    def at_step(self, run_id: str, step: int = 2):
        """The run once its training has come this far."""
        return self.until(lambda: self.store.run(run_id), lambda run: run.step >= step)

    def training(self, run_id: str):
        """The run once its worker is about to make its first step."""
        return self.until(lambda: self.store.run(run_id), lambda run: run.phase == "training")

    def log(self) -> str:
        path = self.home / "engine" / "dispatcher.log"
        return path.read_text() if path.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """Every living process of this home's engine: all work in that folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.cwd() == str(self.home) and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def forkservers(self) -> list[psutil.Process]:
        found, dispatcher = [], self.dispatcher()
        for process in self.processes():
            with suppress(psutil.Error):  # it has just ended
                if "forkserver" in process.cmdline() and process.ppid() == dispatcher:
                    found.append(process)
        return found

    def dispatcher(self) -> int | None:
        return local.dispatcher_pid(self.home)

    def worker_pid(self, run_id: str) -> int:
        return self.store.attempts(run_id)[-1]["pid"]

    def workers(self) -> set[int]:
        """The processes of all attempts so far."""
        return {attempt["pid"] for run in self.store.runs() for attempt in self.store.attempts(run.run_id)}

    def at_work(self, run_id: str) -> bool:
        """True while the worker's process lives, whatever the record says."""
        return process_start(self.worker_pid(run_id)) is not None

    def remove(self, run_id: str) -> None:
        """Remove a run as a user does: it is no longer expected in the record."""
        self.store.remove(run_id)
        self.asked.discard(run_id)

    def audit(self, wait_limit_s: float = 10.0) -> Damage:
        """What is wrong now, after any fault: runs, events, processes, adapters."""
        damage, runs = Damage(), self.store.runs(ids=self.asked)
        damage.lost = [f"{run_id} is not in the record" for run_id in self.asked - {run.run_id for run in runs}]
        for run in runs:
            for attempt in self.store.attempts(run.run_id):
                events = self.store.events(run.run_id, attempt=attempt["attempt"])
                who = f"{run.run_id}/{attempt['attempt']}"
                if [event["seq"] for event in events] != list(range(len(events))):
                    damage.events.append(f"{who}: an event twice or missing")
                steps = [event["step"] for event in events if event["kind"] == "step"]
                if steps and steps != list(range(steps[0], steps[0] + len(steps))):
                    damage.events.append(f"{who}: a step twice or missing")
                if sum(event["kind"] in ("final", "failed", "cancelled") for event in events) > 1:
                    damage.events.append(f"{who}: more than one last word")
            if run.status not in ("done", "stopped"):
                whole = run.metrics == {}
            else:
                whole = run.metrics["test/accuracy"] == 0.5 and self._files(run.adapter_dir) == ["one", "two"]
            if not whole:
                damage.halves.append(f"{run.run_id} is {run.status} with {run.metrics}, {self._files(run.adapter_dir)}")
        damage.orphans = [f"orphan {process}" for process in self._orphans(wait_limit_s)]
        return damage

    @staticmethod
    def _files(folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def _orphans_now(self) -> list[psutil.Process]:
        live = [self.worker_pid(run.run_id) for run in self.store.runs(status=LIVE)]
        known = {self.dispatcher(), *(p.pid for p in self.forkservers()), *live}
        return [process for process in self.processes() if process.pid not in known]

    def _orphans(self, wait_limit_s: float = 10.0) -> list[psutil.Process]:
        """Processes that belong to no dispatcher, no forkserver of its, and no live run, after a moment to leave."""
        deadline = time.monotonic() + wait_limit_s
        while (left := self._orphans_now()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def check(self) -> None:
        """No run lost, no event twice or missing, no orphan process, no half adapter shown as whole."""
        damage = self.audit()
        LEDGER.audited(self._faults, len(self.asked - self._audited), damage)
        self._audited |= self.asked
        assert damage.all == []

    def stop_dispatcher(self) -> None:
        """Kill the dispatcher alone, and see it gone."""
        os.kill(self.dispatcher(), signal.SIGKILL)
        while self.dispatcher() is not None:
            time.sleep(0.01)

    def stop(self) -> None:
        """End everything, the dispatcher first so that nothing is started anew."""
        if not self.home.exists():
            return
        for _ in range(100):
            pid = self.dispatcher()
            for process in self.forkservers():
                with suppress(psutil.Error):
                    process.suspend()  # or it would start another dispatcher
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            left = self.processes()
            if not pid and not left:
                return
            for process in left:
                try:
                    process.kill()
                except psutil.Error:
                    continue
            time.sleep(0.02)
        raise AssertionError(f"processes that do not end: {self.processes()}")


@pytest.fixture
def make_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    monkeypatch.setenv("CDKA_SLOTS", "2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    made: list[Engine] = []

    def make(role: str = "dispatcher", name: str = "home") -> Engine:
        made.append(Engine(tmp_path / name, role))
        return made[-1]

    yield make
    for engine in made:
        engine.stop()


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine()
