"""A night of runs in a real browser: the Studio is killed, started again, opened twice, closed; nothing is lost."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from ledger import LEDGER, Damage

from cdka.engine import local
from cdka.runs.store import Store

pytestmark = pytest.mark.browser
STORE_WAIT_LIMIT_S = 240.0


def open_room(context, settled, url: str):
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{url}/finetune")
    settled(page)
    return page


def launch(page, settled, steps: int = 40) -> None:
    """JobSpec the default comparison, short."""
    page.get_by_label("Steps", exact=True).fill(str(steps))
    page.keyboard.press("Enter")
    page.get_by_text(f"{steps} steps each").first.wait_for()
    settled(page)
    page.get_by_role("button", name="Launch 2 runs").click()


def ended(store: Store):
    """The runs of the home once all have ended."""
    deadline = time.monotonic() + STORE_WAIT_LIMIT_S
    while not (runs := store.runs()) or any(not run.status.is_finished() for run in runs):
        assert time.monotonic() < deadline, runs
        time.sleep(0.2)
    return runs


def orphans(store: Store) -> list[str]:
    """Processes of this home beside its dispatcher and that one's forkserver, once they have had time to leave."""
    deadline = time.monotonic() + 10.0
    while True:
        pid = local.dispatcher_pid(store.home)
        left = [
            process.info
            for process in psutil.process_iter(["pid", "ppid", "cwd", "cmdline"])
            if process.info["cwd"] == str(store.home) and pid not in (process.info["pid"], process.info["ppid"])
        ]
        if not left or time.monotonic() > deadline:
            return [f"orphan {info}" for info in left]
        time.sleep(0.1)


def audited(store: Store, fault: str, asked: list[str], times: int = 1) -> None:
    """Note the fault and what it cost: runs, events, adapters."""
    damage, runs = Damage(), {run.run_id: run for run in store.runs()}
    damage.lost = [run_id for run_id in asked if run_id not in runs]
    for run in runs.values():
        steps = [event["step"] for event in store.events(run.run_id, kinds=["step"])]
        if steps != list(range(1, run.spec.steps + 1)):
            damage.events.append(f"{run.run_id}: {steps}")
        if not (run.adapter_dir / "adapter_model.safetensors").is_file():
            damage.halves.append(run.run_id)
    damage.orphans = orphans(store)
    LEDGER.tried(fault, times)
    LEDGER.audited({fault}, len(asked), damage)
    assert damage.all == []


@pytest.mark.parametrize("moment", [1.5, *(pytest.param(m, marks=pytest.mark.slow) for m in (0.0, 0.3, 4.0))])
def test_a_killed_studio_finds_its_runs_again_and_so_does_the_page(chromium, serve, settled, tmp_path, moment):
    server, url = serve()
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = open_room(context, settled, url)
    launch(page, settled)
    time.sleep(moment)
    os.killpg(server.pid, signal.SIGKILL)  # as closing a terminal does
    server.wait()
    store = Store(tmp_path / "studio")
    asked = [run.run_id for run in store.runs()]
    assert len(asked) == 2 or (moment < 1 and not asked), "queued whole, or (killed at once) not at all"
    if asked:
        runs = ended(store)  # nobody looks: no Studio, no page
        assert [(run.status, run.attempt) for run in runs] == [("done", 1)] * 2, [run.error for run in runs]
    serve(int(url.rsplit(":", 1)[1]))
    if asked:
        page.get_by_text("2 runs: 2 done").wait_for(timeout=60_000)  # the same page, which connects again by itself
    context.close()
    audited(store, "kill -9 of the Studio", asked)


def test_two_studios_two_tabs_and_a_closed_browser_on_one_home(chromium, serve, settled, tmp_path):
    (_, one), (_, two) = serve(), serve()
    store = Store(tmp_path / "studio")
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    first, second = open_room(context, settled, one), open_room(context, settled, two)
    launch(first, settled)
    first.get_by_text("2 runs:").wait_for()
    launch(second, settled)
    second.get_by_text("2 runs:").wait_for()
    tab = context.new_page()
    tab.goto(f"{two}/finetune?show=all")
    tab.get_by_text("4 runs:").wait_for(timeout=60_000)
    tab.reload()
    tab.get_by_text("4 runs:").wait_for(timeout=60_000)
    context.close()  # the browser is closed; the runs go on
    asked = [run.run_id for run in store.runs()]
    runs = ended(store)
    assert [(run.status, run.attempt) for run in runs] == [("done", 1)] * 4, [run.error for run in runs]
    again = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = open_room(again, settled, one)
    page.get_by_text("4 runs: 4 done").wait_for()  # the landing shows what was shown last
    again.close()
    audited(store, "two Studios on one home, browser closed", asked)
