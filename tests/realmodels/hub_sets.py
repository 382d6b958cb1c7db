"""Small copies of public data sets in their own format: the README's configurations, file names and columns."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd


def _readme(folder: Path, configs: dict[str, dict[str, str]], missing: bool = True) -> None:
    """``missing``: the first configuration is one whose files were not fetched, as with GLUE, ARC and MBPP."""
    lines = ["---", "configs:"]
    configs = {"another": {"test": "another/test-*"}, **configs} if missing else configs
    for name, files in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in files.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("\n".join([*lines, "---", "", "# A copy for tests"]))


def _parquet(folder: Path, path: str, rows: list[dict]) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(file)


def metamath(folder: Path) -> dict[str, str]:
    """MetaMathQA and GSM8K; the third test answer is "1,234", the fourth "-3"."""
    folder.mkdir(parents=True)
    (folder / "meta").mkdir()
    rows = [
        {
            "query": f"What is {i} plus 1?",
            "response": f"One more than {i}.\n#### {i + 1}\nThe answer is: {i + 1}",
            "type": "GSM_Rephrased",
            "original_question": f"{i} plus 1",
        }
        for i in range(24)
    ]
    (folder / "meta" / "MetaMathQA-395K.json").write_text(json.dumps(rows))
    gsm = folder / "gsm"
    split = {"train": "main/train-*", "test": "main/test-*"}
    _readme(gsm, {"main": split, "socratic": {"train": "socratic/train-*", "test": "socratic/test-*"}})
    _parquet(
        gsm,
        "main/train-00000-of-00001.parquet",
        [{"question": f"Add {i} and 2.", "answer": f"{i}+2=<<{i}+2={i + 2}>>{i + 2}\n#### {i + 2}"} for i in range(10)],
    )
    answers = ["7", "12", "1,234", "-3", "$5.00", "1/2"]
    _parquet(
        gsm,
        "main/test-00000-of-00001.parquet",
        [{"question": f"Problem {i}?", "answer": f"So.\n#### {a}"} for i, a in enumerate(answers)],
    )
    return {"metamath": str(folder / "meta"), "gsm8k": str(gsm)}


def code(folder: Path) -> dict[str, str]:
    """CodeFeedback, MBPP (sanitized) and HumanEval."""
    feedback, tried, judged = folder / "feedback", folder / "mbpp", folder / "humaneval"
    feedback.mkdir(parents=True)
    lines = [
        {
            "query": f"Write a function that adds {i}.",
            "answer": f"```python\ndef f(x):\n    return x + {i}\n```",
            "resource": "test",
            "lang": "python",
        }
        for i in range(16)
    ]
    (feedback / "CodeFeedback-Filtered-Instruction.jsonl").write_text("\n".join(map(json.dumps, lines)))
    _readme(tried, {"full": {"test": "full/test-*"}, "sanitized": {"validation": "sanitized/validation-*"}})
    _parquet(
        tried,
        "sanitized/validation-00000-of-00001.parquet",
        [
            {
                "source_file": "x",
                "task_id": i,
                "prompt": f"Write a function to add {i}.",
                "code": f"def add_it(x):\n    return x + {i}",
                "test_imports": [],
                "test_list": [f"assert add_it(1) == {i + 1}", f"assert add_it(2) == {i + 2}"],
            }
            for i in range(4)
        ],
    )
    _readme(judged, {"openai_humaneval": {"test": "openai_humaneval/test-*"}})
    _parquet(
        judged,
        "openai_humaneval/test-00000-of-00001.parquet",
        [
            {
                "task_id": f"HumanEval/{i}",
                "prompt": "from typing import List\n\n\n"
                + f'def plus(values: List[int]) -> int:\n    """ Sum plus {i}. """\n',
                "canonical_solution": f"    return sum(values) + {i}\n",
                "test": f"def check(candidate):\n    assert candidate([1, 2]) == {3 + i}\n",
                "entry_point": "plus",
            }
            for i in range(3)
        ],
    )
    return {"codefeedback": str(feedback), "mbpp": str(tried), "humaneval": str(judged)}


GLUE = {
    "sst2": (("sentence",), "validation", 2),
    "cola": (("sentence",), "validation", 2),
    "qnli": (("question", "sentence"), "validation", 2),
    "mrpc": (("sentence1", "sentence2"), "validation", 2),
    "mnli": (("premise", "hypothesis"), "validation_matched", 3),
    "qqp": (("question1", "question2"), "validation", 2),
}


def glue(folder: Path) -> dict[str, str]:
    """The six sets of GLUE in one repository."""
    configs = {}
    for name, (columns, judged, labels) in GLUE.items():
        configs[name] = {split: f"{name}/{split}-*" for split in ("train", judged)}
        for split, rows in (("train", 24), (judged, 8)):
            _parquet(
                folder,
                f"{name}/{split}-00000-of-00001.parquet",
                [{**{c: f"{c} {i} of {split}" for c in columns}, "label": i % labels, "idx": i} for i in range(rows)],
            )
    _readme(folder, configs)
    return {"mirror": str(folder)}


def commonsense(folder: Path, task: str) -> dict[str, str]:
    """One of the sets of questions with options."""

    def choices(question: str, letters: str = "ABCD") -> list[dict]:
        return [
            {
                "id": str(i),
                question: f"question {i}?",
                "answerKey": letters[i % len(letters)],
                "choices": {"text": [f"option {c}" for c in letters], "label": list(letters)},
            }
            for i in range(16)
        ]

    arc = choices("question")
    arc[0]["choices"], arc[0]["answerKey"] = {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "3"
    boolq = [{"question": f"is it {i}", "passage": f"It is {i}.", "answer": bool(i % 2)} for i in range(16)]
    swag = [
        {"ind": i, "ctx": f"Someone does {i}", "endings": [f"end {j}" for j in range(4)], "label": str(i % 4)}
        for i in range(16)
    ]
    config, rows, judged, place = {
        "arc-easy": ("ARC-Easy", arc, "test", "ARC-Easy"),
        "arc-challenge": ("ARC-Challenge", arc, "test", "ARC-Challenge"),
        "openbookqa": ("main", choices("question_stem"), "test", "main"),
        "commonsense-qa": ("default", choices("question", "ABCDE"), "validation", "data"),
        "boolq": ("default", boolq, "validation", "data"),
        "hellaswag": ("default", swag, "validation", "data"),
    }[task]
    _readme(folder, {config: {split: f"{place}/{split}-*" for split in ("train", judged)}})
    for split in ("train", judged):
        _parquet(folder, f"{place}/{split}-00000-of-00001.parquet", rows)
    return {"mirror": str(folder)}


def images(folder: Path, columns: tuple[str, str] = ("image", "label"), splits: tuple[str, ...] = ("train", "test")):
    """A data set of pictures, dark and light, as ``Dataset.push_to_hub`` would write it."""
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Pictures

    image, label = columns
    features = Features({image: Image(), label: ClassLabel(names=["dark", "light"])})
    for split in splits:
        pictures = [Pictures.new("RGB", (12, 10), (40 + 160 * (i % 2) + i,) * 3) for i in range(24)]
        table = Dataset.from_dict({image: pictures, label: [i % 2 for i in range(24)]}, features=features)
        file = folder / "data" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(str(file))
    _readme(folder, {"default": {split: f"data/{split}-*" for split in splits}}, missing=False)
    return str(folder)
