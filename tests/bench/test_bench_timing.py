"""Ratios: interleaved, paired, and right when the answer is known."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from cdka.bench import timing
from cdka.bench.timing import Ratio, interleaved, ratio
from cdka.cli import main as cli
from cdka.errors import CdkaError


class Clock:
    """Time passes only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_a_slow_moment_of_the_machine_falls_on_all_candidates(monkeypatch):
    clock, order = Clock(), []
    monkeypatch.setattr(timing, "time", clock)

    def work(name: str, seconds: float):
        def run() -> None:
            order.append(name)
            slow = 10.0 if len(order) > 30 else 1.0  # the second half of the measurement runs on a busy machine
            clock.now += seconds * slow

        return run

    seconds = interleaved({"a": work("a", 3.0), "b": work("b", 2.0)}, rounds=20, warmup=2)
    assert order[:4] == ["a", "b", "a", "b"]
    assert order[4:8] == ["a", "b", "b", "a"]
    assert len(seconds["a"]) == len(seconds["b"]) == 20
    measured = ratio(seconds, "a", "b")
    assert (measured.median, measured.rounds) == (pytest.approx(1.5), 20)
    assert str(Ratio(1.234, 1.1, 1.3, 20)) == "1.23 [1.10, 1.30]"


def test_a_limit_ends_the_rounds_and_leaves_three(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)

    def work() -> None:
        clock.now += 1.0

    def rounds(limit_s: float) -> int:
        return len(interleaved({"a": work, "b": work}, rounds=50, limit_s=limit_s)["a"])

    assert rounds(limit_s=1.0) == 3
    began = clock.now
    assert 3 < rounds(limit_s=30.0) < 50
    assert clock.now - began <= 32.0
    assert rounds(limit_s=1e6) == 50


def test_cells_are_announced_with_the_time_that_is_left(monkeypatch, capsys):
    clock = Clock()
    clock.monotonic = clock.perf_counter
    monkeypatch.setattr(timing, "time", clock)
    for cell in timing.announced([("first", 3.0), ("second", 5.0), ("third", 1.0)]):
        clock.now += cell
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["1/3 first", "2/3 second, about 6 s left", "3/3 third, about 4 s left"]


def test_synchronise_runs_before_every_reading(monkeypatch):
    clock, pending = Clock(), []
    monkeypatch.setattr(timing, "time", clock)

    def wait() -> None:
        clock.now += sum(pending)
        pending.clear()

    seconds = interleaved(
        {"a": lambda: pending.append(2.0), "b": lambda: pending.append(1.0)}, rounds=4, warmup=1, synchronise=wait
    )
    assert seconds == {"a": [2.0] * 4, "b": [1.0] * 4}


def test_quartiles_are_those_of_the_paired_ratios():
    seconds = {"a": [2.0, 6.0, 4.0, 12.0, 8.0], "b": [2.0, 2.0, 2.0, 2.0, 2.0]}
    assert ratio(seconds, "a", "b") == Ratio(3.0, 2.0, 4.0, 5)
    assert ratio({"a": [4.0], "b": [2.0]}, "a", "b") == Ratio(2.0, 2.0, 2.0, 1)


def test_nothing_to_measure_is_refused():
    for candidates, rounds in (({}, 5), ({"a": print}, 0)):
        with pytest.raises(CdkaError, match="needs candidates and rounds"):
            interleaved(candidates, rounds=rounds)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["bench", "layr"], "unknown bench 'layr'. Did you mean 'layer'?"),
        (["bench", "layer", "--rounds", "0"], "--rounds must be a positive integer: got 0."),
        (["bench", "solver", "--markdown"], "--markdown goes with a bench that has targets, such as layer: got"),
        (["bench", "layer", "--device", "cuda:77"], "torch cannot use this device: got 'cuda:77'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(argv, message, capsys):
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"cdka: {message}")
    assert captured.err.count("\n") == 1


def test_a_bench_that_is_not_installed_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(__import__("cdka.bench").bench.BENCHES, "nosuch", "a bench that does not exist")
    assert cli.main(["bench", "nosuch"]) == 2
    assert "the bench 'nosuch' is not part of this installation. Available: steps, layer" in capsys.readouterr().err


def test_the_command_dispatches_to_the_module_of_that_name(monkeypatch, capsys):
    from cdka.cli import bench

    seen = []
    fake = SimpleNamespace(
        run=lambda args: seen.append((args.quick, args.rounds, args.device)) or {"value": 1.5},
        show=lambda document: print("as a table", document["value"]),
    )
    monkeypatch.setattr(bench, "find_bench", lambda name: fake)
    assert cli.main(["bench", "layer", "--quick", "--rounds", "3", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"value": 1.5}
    assert cli.main(["bench"]) == 0
    assert capsys.readouterr().out == "as a table 1.5\n"
    assert seen == [(True, 3, "cpu"), (False, None, "auto")]
