"""Metrics that the user names: of scikit-learn, of the Hub's ``evaluate``, or of a file of one's own. Free of torch."""

from __future__ import annotations

import ast
import hashlib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from cdka.errors import CdkaError, unknown
from cdka.paths import expanded, pasted
from cdka.tasks.options import CONSENT, switch
from cdka.tasks.scores import Answers, Scores

OPTIONS = ("metric", "metric_from", "metric_sha256", CONSENT)
EVALUATE = "evaluate/"
"""Begins the name of a metric of the package evaluate."""
Metric = Callable[[Sequence[Any], Sequence[Any]], float]
"""``metric(predictions, references)`` returns one number."""
_KINDS = re.compile(r"(_score|_error|_corrcoef|_loss)$")


def own_scores(options: Mapping[str, Any]) -> Scores | None:
    """The metrics that the options name, each under its function's name; None where they name none.

    ``metric`` lists functions of ``sklearn.metrics`` and ``evaluate/NAME``. ``metric_from`` is ``FILE.py:function``,
    called with the predictions and the references (None: an answer that could not be read). Raises CdkaError for an
    unknown name, and for a file without the user's consent to run it.
    """
    metrics: dict[str, Metric] = {}
    for name in _names(options):
        _check_name(name, options)
        known = name.removeprefix(EVALUATE)
        metrics[known] = _from_evaluate(known) if name.startswith(EVALUATE) else _from_sklearn(name)
    if options.get("metric_from"):
        path, name = _place(str(options["metric_from"]))
        check_metric(options)
        metrics[name] = _from_file(path, name)
    if not metrics:
        return None
    return lambda answers: {name: _call(name, metric, answers) for name, metric in metrics.items()}


def check_metric(options: Mapping[str, Any]) -> dict[str, str]:
    """The options to keep with a run so that its metric is the same again: the digest of the user's file.

    Runs nothing. Raises CdkaError for a file or function that is not there or has changed, and without consent.
    """
    for name in _names(options):
        _check_name(name, options)
    if not options.get("metric_from"):
        return {}
    path, name = _place(str(options["metric_from"]))
    if not switch(options, CONSENT):
        raise CdkaError(
            f"--metric-from runs the code of {path.name} on this machine. Allow it with --allow-code-execution "
            f"(task option {CONSENT}=yes)."
        )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if options.get("metric_sha256") not in (None, digest):
        raise CdkaError(
            f"{path.name} has changed since this run was planned, so its metric would not compare. Put the old file "
            "back, or start a new run."
        )
    try:
        functions = [node.name for node in ast.parse(content).body if isinstance(node, ast.FunctionDef)]
    except SyntaxError as error:
        raise CdkaError(f"{path.name}, line {error.lineno}: not Python ({error.msg}). Correct it.") from None
    if name not in functions:
        raise unknown("function", name, functions, where=f"in {path.name}", next_step="Use --metric-from FILE.py:NAME.")
    return {"metric_from": f"{path.resolve()}:{name}", "metric_sha256": digest}


def _names(options: Mapping[str, Any]) -> list[str]:
    return [name for part in str(options.get("metric") or "").split(",") if (name := part.strip())]


def _check_name(name: str, options: Mapping[str, Any]) -> None:
    """Raises CdkaError for a metric that is not known, not installed, or fetched code that the user has not allowed."""
    if not name.startswith(EVALUATE):
        _from_sklearn(name)
        return
    if find_spec("evaluate") is None:
        raise CdkaError(
            f"--metric {name} is of the package evaluate, which is not installed. Run: pip install evaluate"
        )
    if not switch(options, CONSENT):
        raise CdkaError(
            f"--metric {name} runs code that the package evaluate fetches. Allow it with --allow-code-execution "
            f"(task option {CONSENT}=yes)."
        )


def by_name(scores: Scores | None, names: Sequence[str]) -> Scores | None:
    """The metrics of label names as metrics of label numbers."""
    if scores is None:
        return None
    name = lambda number: None if number is None else names[number]  # noqa: E731
    return lambda answers: scores(Answers([*map(name, answers.label)], [*map(name, answers.predicted)]))


def _place(text: str) -> tuple[Path, str]:
    file, sign, name = pasted(text).rpartition(":")
    path = expanded(pasted(file))
    if not sign or not name.isidentifier() or path.suffix != ".py":
        raise CdkaError(
            f"--metric-from takes FILE.py:FUNCTION: got {text[:80]!r}. Example: --metric-from mine.py:score"
        )
    if not path.is_file():
        raise CdkaError(f"the file of a metric must exist: got {str(path)!r}.")
    return path, name


def _from_file(path: Path, name: str) -> Metric:
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except Exception as error:  # the user's code may raise anything
        raise CdkaError(f"{path.name} cannot be run: {type(error).__name__}: {str(error)[:120]}. Correct it.") from None
    return getattr(module, name)


def _from_evaluate(name: str) -> Metric:
    import evaluate

    try:
        loaded = evaluate.load(name)
    except Exception as error:  # it raises many kinds
        reason = " ".join(str(error).split())[:160]
        raise CdkaError(f"--metric {EVALUATE}{name} cannot be loaded: {type(error).__name__}: {reason}") from None

    def metric(predictions: Sequence[Any], references: Sequence[Any]) -> float:
        read = ["" if value is None else value for value in predictions]
        found = loaded.compute(predictions=read, references=list(references))
        return found[name] if name in found else next(iter(found.values()))

    return metric


def _from_sklearn(name: str) -> Metric:
    if find_spec("sklearn") is None:
        raise CdkaError(f"--metric {name} is scikit-learn's, which is not installed. Run: pip install scikit-learn")
    import sklearn.metrics

    known = [one for one in sklearn.metrics.__all__ if _KINDS.search(one)]
    if name not in known:
        raise unknown("metric", name, known, where="of scikit-learn")
    function = getattr(sklearn.metrics, name)
    parameters = inspect.signature(function).parameters
    extra = {"average": "macro"} if "average" in parameters else {}
    extra |= {"zero_division": 0.0} if "zero_division" in parameters else {}

    def metric(predictions: Sequence[Any], references: Sequence[Any]) -> float:
        read = ["" if value is None else value for value in predictions]
        return function(list(references), read, **extra)

    return metric


def _call(name: str, metric: Metric, answers: Answers) -> float:
    try:
        value = float(metric(list(answers.predicted), list(answers.label)))
    except Exception as error:  # the user's code may raise anything
        raise CdkaError(
            f"metric {name} failed: {type(error).__name__}: {str(error)[:160]}. It is called with predictions and "
            "references, and returns a number."
        ) from None
    if not math.isfinite(value):
        raise CdkaError(f"metric {name} must return a finite number: got {value}.")
    return value
