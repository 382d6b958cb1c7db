"""A report is repeated from its own data, and a value that does not come out again is found."""

from __future__ import annotations

import json

import pytest

from cdka.claims.verify import Repeated, chosen_results, plan_verification, read_report, repeated
from cdka.cli.main import main
from cdka.errors import CdkaError
from cdka.paths import assets_dir
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

SETTINGS = {"model": "digits-vit", "task": "digits-flip", "method": "cdka", "seed": 3, "steps": 2, "batch_size": 8}
DOCUMENT = {
    "format": 1,
    "name": "tiny",
    "metric": "accuracy",
    "model": "digits-vit",
    "task": "digits-flip",
    "versions": {"cdka-studio": "0.2.0"},
    "studies": [{"study": "r1", "results": [{"settings": SETTINGS, "value": 0.25}]}],
}


def test_a_share_is_drawn_from_every_study_and_all_of_it_is_all():
    studies = [{"results": [{"value": i} for i in range(n)]} for n in (40, 3)]
    assert len(chosen_results({"studies": studies}, 0.1)) == 5
    assert chosen_results({"studies": studies}, 0.1) == chosen_results({"studies": studies}, 0.1)
    assert chosen_results({"studies": studies}, 0.1, seed=1) != chosen_results({"studies": studies}, 0.1)
    assert len(chosen_results({"studies": studies}, 1.0)) == 43
    with pytest.raises(CdkaError, match="share must be above 0"):
        chosen_results({"studies": studies}, 0)


def test_the_repetition_has_the_settings_of_the_report_and_is_held_against_it(home):
    store = Store(home)
    results = DOCUMENT["studies"][0]["results"]
    planned = plan_verification(DOCUMENT, results)
    assert [run.spec for run in planned.runs] == [RunSpec.from_dict(SETTINGS)]
    sweep_id = store.create_sweep(planned.name, planned.document, planned.specs)
    with store.database.write() as sql:
        sql.execute("UPDATE runs SET status='done', metrics=?", (json.dumps({"test/accuracy": 0.31}),))
    (one,) = repeated(store, store.sweep(sweep_id), results, "accuracy")
    assert (one.recorded, one.again) == (0.25, 0.31)
    assert one.agrees(0.1)
    assert not one.agrees(0.02)
    assert not Repeated(one.spec, 0.25, None).agrees(1.0)
    assert Repeated(one.spec, None, None).agrees(0.0)


def test_what_is_no_report_or_holds_no_runs_is_refused(tmp_path, capsys):
    with pytest.raises(CdkaError, match="must exist"):
        read_report(tmp_path / "no.json")
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(CdkaError, match=r"is the \.json that cdka study --report wrote"):
        read_report(tmp_path / "odd.json")
    with pytest.raises(CdkaError, match=r"of version 0\.1\.0, which kept none.*trends\.md"):
        read_report(assets_dir() / "studies" / "trends.json")
    assert main(["study", "verify"]) == 2
    assert "verify takes one report" in capsys.readouterr().err


def test_a_report_is_repeated_on_the_command_line(home, tmp_path, capsys):
    """The run is trained: a false value is found, the true one repeats to the last digit."""
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(DOCUMENT))
    assert main(["study", "verify", str(path), "--json"]) == 1
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    true = json.loads(path.read_text())
    true["studies"][0]["results"][0]["value"] = run["again"]
    path.write_text(json.dumps(true))
    assert main(["study", "verify", str(path), "--tolerance", "0"]) == 0
    assert "1 of 1 run repeated; 1 to the last digit, 1 within 0" in capsys.readouterr().out


def test_runs_of_a_shipped_report_come_out_again(home, capsys):
    """A run of the first report in the README, trained anew: what a reader can do with any of them."""
    assert main(["study", "verify", str(assets_dir() / "studies" / "bases.json"), "--share", "0.01"]) == 0
    assert "bases: 1 of 60 runs repeated" in capsys.readouterr().out
