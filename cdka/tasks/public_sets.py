"""Public data sets as tasks, fetched when first used: those of the paper's code with its recipes, and others of ours.

The paper's code trains on MetaMathQA, CodeFeedback and five sets of GLUE for one epoch, and on a mixture of commonsense
sets; it has no image task. What is not among these is ours: QQP, the single commonsense sets, the images, and GSM8K's
own training split. Free of torch.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from cdka.tasks.info import TaskInfo


def _recipe(**settings: Any) -> MappingProxyType[str, Any]:
    """Settings shared with the paper's code (AdamW, alpha 64, weight decay 5e-4, warm-up 0.03, cosine, batch 32).

    Judging is on as many examples as a quarter of the training time pays for (ours).
    """
    shared = {"alpha": 64.0, "batch_size": 32, "weight_decay": 5e-4, "warmup_ratio": 0.03, "schedule": "cosine"}
    judging = dict.fromkeys(("eval_examples", "generate_examples", "test_examples"), "auto")
    return MappingProxyType({**shared, **judging, **settings})


_TEXT = {"overlong": "drop", "group_by_length": True, "chat_template": "auto"}
_LANGUAGE_MODEL = {"lr": 2e-4, "max_length": 1024, "eval_every": 250, **_TEXT}
_GLUE = {
    "sst2": ("SST-2: is a review positive?", 0.5, 872, 2105, "unknown (GLUE)"),
    "cola": ("CoLA: is a sentence acceptable? (Also Matthews' correlation.)", 0.69, 1043, 267, "unknown (GLUE)"),
    "qnli": ("QNLI: does a sentence answer the question?", 0.5, 5463, 3273, "CC BY-SA 4.0"),
    "mrpc": ("MRPC: do two sentences mean the same? (Also F1.)", 0.68, 408, 115, "unknown (GLUE)"),
    "mnli": ("MNLI: does a premise entail the hypothesis?", 0.35, 9815, 12272, "OANC and others (GLUE)"),
    "qqp": ("QQP: are two questions duplicates? (Also F1.)", 0.63, 40430, 11370, "unknown (GLUE)"),
}
"""Title, chance, judged examples, steps of one epoch at batch 32, licence. QQP is not in the paper's code."""
_COMMONSENSE = {
    "arc-easy": ("ARC-Easy: school science", 0.25, "CC BY-SA 4.0"),
    "arc-challenge": ("ARC-Challenge: harder school science", 0.25, "CC BY-SA 4.0"),
    "openbookqa": ("OpenBookQA: elementary science with common knowledge", 0.25, "unknown"),
    "commonsense-qa": ("CommonsenseQA: everyday knowledge", 0.2, "MIT"),
    "boolq": ("BoolQ: yes or no, from a passage", 0.62, "CC BY-SA 3.0"),
    "hellaswag": ("HellaSwag: how does it go on?", 0.25, "MIT"),
}
_IMAGES = {
    "cifar10": ("CIFAR-10", 0.1, 10_000, "unknown"),
    "cifar100": ("CIFAR-100", 0.01, 10_000, "unknown"),
    "food101": ("Food-101", 1 / 101, 25_250, "unknown"),
}

PRESETS = (
    TaskInfo(
        name="metamath-gsm8k",
        title="MetaMathQA, judged on GSM8K",
        kind="causal-lm",
        metric="accuracy",
        description=(
            "Learn from 100,000 worked solutions, answer grade-school problems: an answer is right when the number it "
            "declares is exactly the reference. One epoch is 3,125 steps."
        ),
        module="cdka.tasks.metamath",
        recipe=_recipe(**{**_LANGUAGE_MODEL, "max_length": 512}, steps=3125, components=(2, 2, 8)),
        examples=MappingProxyType({"train": 100_000, "validation": 256, "test": 1319}),
        chance=0.0,
        source="meta-math/MetaMathQA, openai/gsm8k",
        licence="MIT",
    ),
    TaskInfo(
        name="gsm8k",
        title="GSM8K",
        kind="causal-lm",
        metric="accuracy",
        description=(
            "Learn from GSM8K's own 7,217 training problems, answer its test problems: an answer is right when the "
            "number it declares is exactly the reference. Not a task of the paper's code, which trains on MetaMathQA."
        ),
        module="cdka.tasks.metamath",
        recipe=_recipe(
            **{**_LANGUAGE_MODEL, "max_length": "auto", "eval_every": 50},
            steps=452,
            batch_size=16,
            components=(2, 8, 4),
        ),
        examples=MappingProxyType({"train": 7217, "validation": 256, "test": 1319}),
        chance=0.0,
        source="openai/gsm8k",
        licence="MIT",
    ),
    TaskInfo(
        name="codefeedback-humaneval",
        title="CodeFeedback, judged on HumanEval",
        kind="causal-lm",
        metric="accuracy",
        description=(
            "Learn from 100,000 answers to programming questions, complete 164 Python functions: pass@1, greedy. Runs "
            "the code that the model writes, in a sandbox, once you allow it."
        ),
        module="cdka.tasks.code",
        recipe=_recipe(**_LANGUAGE_MODEL, steps=3125, components=(2, 2, 8)),
        examples=MappingProxyType({"train": 100_000, "validation": 43, "test": 164}),
        chance=0.0,
        source="m-a-p/CodeFeedback-Filtered-Instruction, google-research-datasets/mbpp, openai/openai_humaneval",
        licence="Apache 2.0, CC BY 4.0, MIT",
    ),
    *(
        TaskInfo(
            name=f"glue-{name}",
            title=title.split(":")[0],
            kind="text-classification",
            metric="accuracy",
            description=f"{title} One epoch. For encoders and for T5; judged on the public validation split.",
            module="cdka.tasks.glue",
            recipe=_recipe(lr=2e-3, steps=steps, max_length=128, eval_every=max(20, steps // 20)),
            examples=MappingProxyType({"validation": 500, "test": judged}),
            chance=chance,
            source="nyu-mll/glue",
            licence=licence,
        )
        for name, (title, chance, judged, steps, licence) in _GLUE.items()
    ),
    *(
        TaskInfo(
            name=name,
            title=title.split(":")[0],
            kind="causal-lm",
            metric="accuracy",
            description=f"{title}. Answered by a letter.",
            module="cdka.tasks.commonsense",
            recipe=_recipe(**{**_LANGUAGE_MODEL, "max_length": 512}, steps=500, components=(2, 8, 4)),
            chance=chance,
            source="see cdka.tasks.commonsense",
            licence=licence,
        )
        for name, (title, chance, licence) in _COMMONSENSE.items()
    ),
    *(
        TaskInfo(
            name=name,
            title=title,
            kind="image-classification",
            metric="accuracy",
            description=f"{title}: pictures to classify, with a new head on a pre-trained vision model.",
            module="cdka.tasks.images",
            recipe=_recipe(lr=1e-3, steps=1000, eval_every=100),
            examples=MappingProxyType({"validation": 500, "test": judged}),
            chance=chance,
            source=f"Hub data set {name}",
            licence=licence,
        )
        for name, (title, chance, judged, licence) in _IMAGES.items()
    ),
    TaskInfo(
        name="hub-images",
        title="Any image data set of the Hub",
        kind="image-classification",
        metric="accuracy",
        description="Pictures to classify, from the data set named by --task-option dataset=OWNER/NAME.",
        module="cdka.tasks.images",
        recipe=_recipe(lr=1e-3, steps=1000, eval_every=100),
        source="the data set you name",
    ),
)
