"""``cdka run``, ``cdka runs`` and ``cdka studio`` through the real queue, around the fake loop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from cdka import formatting
from cdka.cli import progress, studio
from cdka.cli.main import main
from cdka.engine import local
from cdka.notebook.follow import progress_text

RUN = ["run", "--model", "digits-vit", "--task", "digits-flip", "--components", "2,8,4"]


@pytest.fixture
def cli(make_engine, monkeypatch, capsys):
    """Calls a command as a user would; returns (exit code, stdout, stderr)."""
    engine = make_engine()
    monkeypatch.setattr(local, "DISPATCHER", tuple(engine.command))

    def call(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        out = capsys.readouterr()
        return code, out.out, out.err

    call.engine = engine
    return call


def test_run_answers_with_one_json_document(cli):
    code, out, err = cli(*RUN, "--steps", "4", "--seed", "3", "--json")
    answer = json.loads(out)
    assert code == 0
    assert list(answer)[:6] == ["run_id", "status", "num_params", "metrics", "seconds", "adapter_dir"]
    assert answer["status"] == "done"
    assert answer["metrics"]["steps_done"] == 4
    assert answer["num_params"] == 42
    assert answer["seconds"] > 0
    assert os.path.isdir(answer["adapter_dir"])
    assert answer["run_id"] in err
    spec = cli.engine.store.run(answer["run_id"]).spec
    assert (spec.seed, spec.steps, spec.lr) == (3, 4, 3e-3), "what is not given comes from the recipe"


def test_run_says_it_in_words_too(cli):
    code, out, _ = cli(*RUN, "--steps", "2")
    assert code == 0
    assert out.startswith("done: test accuracy 0.500, 42 parameters")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--components", "3,8,4"], "Nearest divisors: 2 or 4"),
        (["--components", "2,8"], "three integers"),
        (["--model", "digits-vti"], "Did you mean 'digits-vit'"),
        (["--task", "digit-flip"], "Did you mean"),
        (["--method", "cdak"], "Did you mean 'cdka'"),
        (["--target-modules", "q_prj"], "q_prj"),
        (["--steps", "0"], "steps must be"),
        (["--lr", "-1"], "lr must be"),
        (["--lr", "fast"], "lr must be a positive number: got 'fast'"),
        (["--lr", "-1e-3"], "lr must be a positive number: got -0.001"),
        (["--init-weights", "kaimng"], "init_weights must be one of kaiming"),
        (["--pattern", "q_porj=1,1,1"], "Did you mean 'q_proj'"),
        (["--device", "cuda:9"], "Known here"),
        (["--method", "lora"], "components belong to method cdka"),
        (["--pattern", "q_proj"], "NAME=VALUE"),
        (["--scaling-rule", "sqrt"], "scaling"),
    ],
)
def test_bad_input_is_one_line_and_queues_nothing(cli, flags, words):
    code, out, err = cli(*RUN, *flags)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    assert cli.engine.store.runs() == []


def test_a_failed_run_is_exit_1_and_says_where_to_read_on(cli):
    code, out, err = cli(*RUN, "--steps", "30", "--task-option", "act=raise", "--task-option", "at=2", "--json")
    answer = json.loads(out)
    assert code == 1
    assert answer["status"] == "failed"
    assert answer["adapter_dir"] is None
    assert f"{answer['run_id']} failed: ValueError: the teapot is empty" in err
    assert f"cdka runs log {answer['run_id']}" in err
    assert "Traceback" in cli("runs", "log", answer["run_id"])[1]


def test_ctrl_c_stops_and_keeps(cli):
    store = cli.engine.store
    (run_id,) = cli.engine.submit(cli.engine.spec(steps=4000, pace_s=0.01))

    def interrupt():
        cli.engine.at_step(run_id, 3)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    (run,) = progress.follow(store, [run_id])
    watcher.join()
    assert run.status == "stopped"
    assert 3 <= run.metrics["steps_done"] < 4000
    assert progress.exit_code([run]) == 0


def test_runs_lists_shows_stops_retries_and_removes(cli):
    engine = cli.engine
    done, at_work = engine.submit(engine.spec(steps=2), engine.spec(steps=4000, pace_s=0.01))
    engine.wait(done)
    engine.at_step(at_work)
    listed = json.loads(cli("runs", "--json")[1])
    assert [run["run_id"] for run in listed["runs"]] == [at_work, done], "newest first"
    assert listed["total"] == 2
    assert listed["runs"][0]["phase"] == "training"
    out = cli("runs", "list", "--status", "done")[1]
    assert done in out
    assert at_work not in out
    assert json.loads(cli("runs", "show", done[:6], "--json")[1])["spec"]["steps"] == 2
    assert "spec.model" in cli("runs", "show", done)[1]
    assert json.loads(cli("runs", "cancel", at_work, "--json")[1])["runs"][0]["status"] == "stopping"
    engine.wait(at_work)
    assert cli("runs", "retry", at_work)[1].split() == [at_work, "queued"]
    engine.at_step(at_work)
    assert cli("runs", "rm", at_work)[0] == 2
    cli("runs", "stop", at_work)
    engine.wait(at_work)
    assert engine.store.run(at_work).status == "stopped"
    assert cli("runs", "rm", at_work, done)[1].split() == [at_work, "removed", done, "removed"]
    assert json.loads(cli("runs", "--json")[1])["runs"] == []


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["lst"], "Did you mean 'list'"),
        (["show"], "takes one id"),
        (["cancel"], "got no id"),
        (["show", "../etc"], "named by its id"),
        (["rm", "r-22222222"], "unknown run"),
        (["--status", "dnoe"], "Did you mean 'done'"),
        (["--sweep", "s-22222222"], "unknown sweep"),
        (["--top", "-1"], "--top must be 0 (all) or a positive integer: got -1."),
    ],
)
def test_runs_refuses_in_one_line(cli, words, answer):
    code, out, err = cli("runs", *words)
    assert (code, out) == (2, "")
    assert answer in err
    assert err.count("\n") == 1


def test_many_runs_have_one_line_of_progress(cli):
    engine = cli.engine
    run_ids = engine.submit(*[engine.spec(steps=3) for _ in range(3)])
    runs = progress.follow(engine.store, run_ids, quiet=True)
    assert progress_text(runs) == "3/3 runs"
    assert formatting.clock(59.6) == "1:00"
    assert formatting.clock(3725) == "1:02:05"


def test_the_studio_tells_when_its_port_is_taken(cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = cli("studio", "--port", str(port), "--no-browser")
    assert code == 2
    assert f"port {port} must be free" in err
    assert f"--port {port + 1}" in err or port == 65535
    assert cli("studio", "--port", "0")[0] == 2
    assert cli("studio", "--host", "no.such.host.invalid")[0] == 2


def test_the_studio_warns_when_others_can_reach_it(cli, monkeypatch, home):
    import app.server

    calls = []
    monkeypatch.setattr(app.server, "launch", lambda *a, **k: calls.append((a, k)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = cli("studio", "--port", str(port))[2]
    token = (home / "studio-token").read_text()
    assert "warning" not in alone
    assert f"http://127.0.0.1:{port}/?token={token}" in alone
    assert "whoever has the link" in cli("studio", "--host", "0.0.0.0", "--port", str(port), "--no-browser")[2]
    assert "no password" in cli("studio", "--host", "0.0.0.0", "--port", str(port), "--no-token")[2]
    assert "every user of this machine" in cli("studio", "--port", str(port), "--no-token")[2]
    assert [(place, more["browser"], more["token"]) for place, more in calls] == [
        (("127.0.0.1", port), True, token),
        (("0.0.0.0", port), False, token),
        (("0.0.0.0", port), True, ""),
        (("127.0.0.1", port), True, ""),
    ]
    assert studio.is_loopback("::1")
    assert studio.is_loopback("localhost")
    assert not studio.is_loopback("192.168.0.7")


def test_the_commands_are_free_of_torch():
    probe = (
        "import sys, cdka.cli.run, cdka.cli.runs, cdka.cli.studio, app.server; "
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
