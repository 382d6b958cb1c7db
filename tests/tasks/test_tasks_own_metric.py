"""Metrics that the user names: by scikit-learn's names, by evaluate's, or from a file that runs by consent alone."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

from cdka.cli.main import main
from cdka.errors import CdkaError
from cdka.runs.store import Store
from cdka.tasks import own_metric
from cdka.tasks.own_metric import by_name, check_metric, own_scores
from cdka.tasks.scores import Answers

ANSWERS = Answers(["a", "a", "b", "b"], ["a", "b", "b", None])


def test_names_of_scikit_learn_are_called_with_what_was_said_and_what_is_right():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    scores = own_scores({"metric": "cohen_kappa_score, f1_score"})(ANSWERS)
    right, said = ["a", "a", "b", "b"], ["a", "b", "b", ""]
    assert scores["cohen_kappa_score"] == pytest.approx(sklearn_metrics.cohen_kappa_score(right, said))
    macro = sklearn_metrics.f1_score(right, said, average="macro", zero_division=0.0)
    assert scores["f1_score"] == pytest.approx(macro)
    with pytest.raises(CdkaError, match=r"unknown metric 'f1_scor' of scikit-learn\. .*f1_score"):
        own_scores({"metric": "f1_scor"})


def missing(monkeypatch, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(own_metric, "find_spec", lambda name: None if name == package else found(name))


@pytest.mark.parametrize(
    ("metric", "package", "told"),
    [
        (
            "f1_score",
            "sklearn",
            r"is scikit-learn's, which is not installed\. Run: pip install scikit-learn",
        ),
        ("evaluate/rouge", "evaluate", r"of the package evaluate, which is not installed\. Run: pip install evaluate"),
    ],
)
def test_a_package_that_is_missing_is_named_before_anything_is_trained(metric, package, told, monkeypatch):
    missing(monkeypatch, package)
    with pytest.raises(CdkaError, match=told):
        check_metric({"metric": metric})


def test_metrics_of_evaluate_run_by_consent(monkeypatch):
    fake = ModuleType("evaluate")
    fake.load = lambda name: SimpleNamespace(compute=lambda predictions, references: {name: len(predictions) / 8})
    monkeypatch.setitem(sys.modules, "evaluate", fake)
    monkeypatch.setattr(own_metric, "find_spec", lambda name: True)
    with pytest.raises(CdkaError, match=r"runs code that the package evaluate fetches\. .*--allow-code-execution"):
        own_scores({"metric": "evaluate/exact_match"})
    scores = own_scores({"metric": "evaluate/exact_match", "allow_code_execution": "yes"})
    assert scores(ANSWERS) == {"exact_match": 0.5}


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def share_of_a(predictions, references):\n    return predictions.count('a') / len(references)\n\n\n"
        "def words(predictions, references):\n    return 'many'\n"
    )
    return path


def test_a_file_of_ones_own_runs_by_consent_and_stays_as_it_was(mine):
    options = {"metric_from": f"{mine}:share_of_a"}
    with pytest.raises(CdkaError, match=r"runs the code of mine\.py on this machine\. .*--allow-code-execution"):
        own_scores(options)
    options["allow_code_execution"] = True
    assert own_scores(options)(ANSWERS) == {"share_of_a": 0.25}
    kept = {**options, **check_metric(options)}
    with mine.open("a") as more:
        more.write("# edited\n")
    with pytest.raises(CdkaError, match=r"mine\.py has changed since this run was planned"):
        own_scores(kept)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("{}:nothing", r"unknown function 'nothing' in mine\.py\. "),
        ("{}", r"takes FILE\.py:FUNCTION: got"),
        ("absent.py:f", r"the file of a metric must exist"),
    ],
)
def test_what_is_no_metric_is_refused_before_anything_is_trained(mine, place, told):
    with pytest.raises(CdkaError, match=told):
        check_metric({"metric_from": place.format(mine), "allow_code_execution": True})


def test_an_answer_that_is_no_number_is_told(mine):
    with pytest.raises(CdkaError, match=r"metric words failed: ValueError"):
        own_scores({"metric_from": f"{mine}:words", "allow_code_execution": True})(ANSWERS)


def test_labels_are_given_by_their_names(mine):
    scores = by_name(own_scores({"metric_from": f"{mine}:share_of_a", "allow_code_execution": True}), ["b", "a"])
    assert scores(Answers([0, 1], [1, None])) == {"share_of_a": 0.5}


def test_the_flags_reach_the_run_with_the_digest_of_the_file(mine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cdka.engine.local.ensure_dispatcher", lambda store: True)
    data = tmp_path / "d.csv"
    data.write_text("text,label\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(30)))
    words = ["run", "--model", "math-lm", "--data", str(data), "--detach", "--metric-from", f"{mine}:share_of_a"]
    assert main(words) == 2
    assert "Allow it with --allow-code-execution" in capsys.readouterr().err
    assert main([*words, "--allow-code-execution", "--metric", "f1_score"]) == 0
    options = Store().runs()[0].spec.task_options
    assert options["metric_from"] == f"{mine}:share_of_a"
    assert len(options["metric_sha256"]) == 64
    assert options["metric"] == "f1_score"
