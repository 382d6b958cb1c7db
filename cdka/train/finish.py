"""The end of a run: save its adapter, judge it on the test split, and report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from cdka.paths import write_atomically
from cdka.runs import events
from cdka.runs.metrics import EVAL_BEST_ACCURACY, TRAIN_LOSS, prefixed
from cdka.runs.run import ANSWERS_FILE
from cdka.train.checkpoint import save_adapter
from cdka.train.data.splits import TextSplit
from cdka.train.device import peak_memory_bytes
from cdka.train.evaluate import Evaluation, evaluate
from cdka.train.member import Member
from cdka.train.pack import PHASES, Events, Pack, watched
from cdka.train.validation import judge_retained, judge_validation, keeps_best, note


def finish(pack: Pack, member: Member) -> Events:
    """Save, judge and report one run, which leaves the pack: the only place that reads the test split.

    The adapter is saved first, so that whatever happens later does not cost it. A run that is cancelled meanwhile
    ends without a report.
    """
    training_s = pack.elapsed_s
    member.stopped = True
    pack.clock.enter("save")
    yield member.index, events.Phase(phase=PHASES["save"])
    save_adapter(pack.model, member, member.directory / "adapter")
    yield member.index, events.Saved(directory=str(member.directory / "adapter"))
    if member.last_evaluation is None or member.last_good_step != member.step:
        yield member.index, events.Phase(phase=PHASES["evaluate"])
        results = yield from watched(pack, [member], judge_validation(pack, [member]))
        if results is None:
            return
        yield from note(pack, member, results[0])
    reported = _put_back_best(member)
    yield member.index, events.Phase(phase=PHASES["test"])
    tests = yield from watched(
        pack, [member], evaluate(pack.model, [member], pack.data.test, pack.data.objective, pack.device), phase="test"
    )
    if tests is None:
        return
    _keep_answers(pack, member, tests[0])
    retained = yield from judge_retained(pack, [member])
    if retained is None:
        return
    pack.clock.enter("save")
    best = _best_adapter(member)
    if best is not None:
        yield member.index, events.Saved(directory=str(best), best=True)
    yield member.index, events.Memory(peak_bytes=peak_memory_bytes(pack.device))
    metrics = {
        **_judged(pack, "test", tests[0]),
        **_judged(pack, "eval", member.last_evaluation),
        EVAL_BEST_ACCURACY: member.best_accuracy,
        "best_step": member.best_step,
        "best_by": member.last_evaluation.quality_name,
        "reports": reported,
        TRAIN_LOSS: member.last_train_loss,
        "steps_done": member.step,
        "training_s": training_s,
        **member.retained_before,
        **{f"retained/after_{name}": value for name, value in retained[0].items()},
        **pack.clock.metrics(),
    }
    pack.members.remove(member)
    predictions = {
        "split": "test",
        "example": pack.data.test.ids[list(tests[0].rows)].tolist(),
        "label": tests[0].answers.label,
        "predicted": tests[0].answers.predicted,
    }
    yield (
        member.index,
        events.Final(metrics=metrics, stopped=member.keep_requested, predictions=predictions),
    )


def _keep_answers(pack: Pack, member: Member, result: Evaluation) -> None:
    """Write the generated test answers with their prompts into the run's folder."""
    split, how = pack.data.test, pack.data.objective.generation
    if how is None or not isinstance(split, TextSplit):
        return
    rows = list(result.rows)
    prompts = how.decode([split.source[row].tolist() for row in rows])
    answers = result.answers
    lines = [
        {"example": int(split.ids[row]), "prompt": prompt, "answer": text, "predicted": predicted, "label": label}
        for row, prompt, text, predicted, label in zip(
            rows, prompts, answers.texts, answers.predicted, answers.label, strict=True
        )
    ]
    text = "".join(f"{json.dumps(line, ensure_ascii=False, default=str)}\n" for line in lines)
    write_atomically(member.directory / ANSWERS_FILE, text)


def _judged(pack: Pack, split: str, result: Evaluation) -> dict[str, Any]:
    of = pack.judging.eval_of if split == "eval" else pack.judging.test_of
    counts = {"examples": result.examples, "of": of, "answered": result.answered}
    if split == "test":
        counts["unparsed"] = result.unparsed
    return {**result.metrics(split), **prefixed(split, counts)}


def _put_back_best(member: Member) -> str:
    """``"best"`` where a run with patience is reported by its best look, whose parameters are put back; else "last"."""
    if not member.spec.patience or not member.best_good or member.best_step in (0, member.step):
        return "last"
    member.put_back(member.best_good)
    return "best"


def _best_adapter(member: Member) -> Path | None:
    """The folder of the best look's adapter; the last one's where that is the best; None where none was kept."""
    folder = member.directory / "adapter-best"
    if member.best_step == member.step:
        shutil.rmtree(folder, ignore_errors=True)
        return member.directory / "adapter"
    return folder if member.best_step and folder.is_dir() and keeps_best(member) else None
