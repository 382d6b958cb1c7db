"""The tasks that train on your own data; the task's options name the file and its columns."""

from __future__ import annotations

from types import MappingProxyType

from cdka.tasks.info import TaskInfo

LOCAL = (
    TaskInfo(
        name="local-classify",
        title="Your texts, classified",
        kind="text-classification",
        metric="accuracy",
        description=(
            "A CSV, JSONL or Parquet file with a text column (or a pair of them) and a label column. Encoders and "
            "decoders get a new head, or keep one that knows the labels; encoder-decoders write the label."
        ),
        module="cdka.tasks.files.read",
        recipe=MappingProxyType(
            {"steps": 200, "lr": 1e-3, "alpha": 16.0, "batch_size": 32, "eval_every": 20, "max_length": 128}
        ),
        source="your file",
    ),
    TaskInfo(
        name="local-regress",
        title="Your texts, measured",
        kind="text-regression",
        metric="spearman",
        description=(
            "A CSV, JSONL or Parquet file with a text column (or a pair of them) and a column of numbers. Encoders and "
            "decoders get a new head with one output; judged by rank correlation (Spearman) and squared error."
        ),
        module="cdka.tasks.files.read",
        recipe=MappingProxyType(
            {"steps": 200, "lr": 1e-3, "alpha": 16.0, "batch_size": 32, "eval_every": 20, "max_length": 128}
        ),
        source="your file",
    ),
    TaskInfo(
        name="local-instruct",
        title="Your instructions, answered",
        kind="causal-lm",
        metric="accuracy",
        description=(
            "A CSV, JSONL or Parquet file with a prompt column and an answer column (Alpaca's input too), or with "
            "conversations (messages, ShareGPT). The loss counts the answer only; "
            "accuracy is the share of answers that come out exactly (as text, as a number, or as an option)."
        ),
        module="cdka.tasks.files.read",
        recipe=MappingProxyType(
            {
                "steps": 200,
                "lr": 2e-4,
                "alpha": 64.0,
                "batch_size": 16,
                "eval_every": 50,
                "max_length": "auto",
                "overlong": "drop",
                "group_by_length": True,
                "chat_template": "auto",
                **dict.fromkeys(("eval_examples", "generate_examples", "test_examples"), "auto"),
            }
        ),
        source="your file",
    ),
    TaskInfo(
        name="local-text",
        title="Your text, continued",
        kind="causal-lm",
        metric="accuracy",
        description=(
            "Text files (.txt, .md) or one column of a table, without labels: every next token is learned. Judged by "
            "the share of next tokens that come out right, and by perplexity."
        ),
        module="cdka.tasks.files.text",
        recipe=MappingProxyType(
            {
                "steps": 100,
                "lr": 2e-4,
                "alpha": 64.0,
                "batch_size": 4,
                "eval_every": 20,
                "max_length": "auto",
                **dict.fromkeys(("eval_examples", "generate_examples", "test_examples"), "auto"),
            }
        ),
        source="your files",
    ),
    TaskInfo(
        name="local-image-text",
        title="Your pictures, described or asked about",
        kind="image-text",
        metric="accuracy",
        description=(
            "A folder of pictures with a table (metadata.csv or .jsonl) that names each file with its caption, or with "
            "a question and its answer. For models that see and write; both towers are adapted."
        ),
        module="cdka.tasks.files.picture_texts",
        recipe=MappingProxyType(
            {"steps": 200, "lr": 2e-4, "alpha": 64.0, "batch_size": 8, "eval_every": 50, "max_length": 512}
        ),
        source="your folder",
    ),
    TaskInfo(
        name="local-images",
        title="Your pictures, classified",
        kind="image-classification",
        metric="accuracy",
        description="A folder with one folder of pictures per label; or train, validation and test folders of such.",
        module="cdka.tasks.files.read",
        recipe=MappingProxyType({"steps": 200, "lr": 1e-3, "alpha": 16.0, "batch_size": 32, "eval_every": 20}),
        source="your folder",
    ),
)
