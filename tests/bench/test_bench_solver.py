from __future__ import annotations

import argparse

from cdka.bench import BENCHES, solver


def test_the_solver_bench_measures_every_budget_and_prints_a_table(capsys, monkeypatch):
    monkeypatch.setattr(solver, "MODEL", "digits-vit")
    monkeypatch.setattr(solver, "BUDGETS", ("lora:2", "5%"))
    document = solver.run(argparse.Namespace(quick=True, rounds=1, device="cpu"))
    assert "solver" in BENCHES
    assert [row["budget"] for row in document["budgets"]] == ["lora:2", "5%"]
    assert all(row["options_s"] > 0 and row["options"] > 0 for row in document["budgets"])
    solver.show(document)
    assert "all built ms" in capsys.readouterr().out
