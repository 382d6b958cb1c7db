"""Text laid out for models: chat templates, long examples, automatic limits, packed text without labels."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

sys.path.append(str(Path(__file__).parents[1] / "realmodels"))
from tiny_models import save_tiny

from cdka.errors import CdkaError
from cdka.runs.resolve import resolve_runs, spec_for
from cdka.tasks.catalogue import find_task
from cdka.tasks.rows import TextRows
from cdka.train import generate
from cdka.train.data.load import load_task
from cdka.train.data.objectives import Generation
from cdka.train.data.text import text_data
from cdka.train.generate import stream_tokens
from cdka.train.load_model import load_tokenizer
from cdka.train.loop import train

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(a base model, the same with a chat template), tiny Llamas with random weights."""
    folder = tmp_path_factory.mktemp("models")
    plain, chat = save_tiny("llama", folder / "plain"), save_tiny("llama", folder / "chat")
    (Path(chat) / "chat_template.jinja").write_text(TEMPLATE)
    return str(plain), str(chat)


@pytest.fixture
def gsm8k(tmp_path):
    """GSM8K as its JSON Lines files: one long answer in thirty short ones."""
    rows = [{"question": f"What is {i} and 2?", "answer": f"It is {i + 2}.\n#### {i + 2}"} for i in range(90)]
    for i in (7, 37, 67):
        rows[i]["answer"] = "well " * 40 + "\n#### 9"
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    for split, some in (("train", rows), ("test", rows[:6])):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, some)))
    return {"gsm8k": str(folder), "validation_examples": 8}


def loaded(model, options, **settings):
    spec = spec_for(model, "gsm8k", task_options=options, **settings)
    return load_task(find_task("gsm8k"), spec)


def first_prompt(data, model):
    return load_tokenizer(model).hf_tokenizer.decode(data.train.source[0].tolist())


def test_a_model_with_a_chat_template_gets_its_own_and_a_base_model_the_plain_one(models, gsm8k):
    plain, chat = models
    assert "### Instruction:" in first_prompt(loaded(plain, gsm8k), plain)
    own = loaded(chat, gsm8k)
    assert "Prompts are laid out by the model's own chat template." in own.notes
    text = first_prompt(own, chat)
    assert "### Instruction:" not in text
    assert text.rstrip().endswith("assistant:")
    asked = loaded(chat, gsm8k, system_prompt="Be brief.")
    assert len(asked.train.source[0]) > len(own.train.source[0])
    assert "### Instruction:" in first_prompt(loaded(chat, gsm8k, chat_template="plain"), chat)


def test_long_examples_are_left_out_or_cut_and_it_is_told(models, gsm8k):
    model = models[0]
    whole = loaded(model, gsm8k, max_length=1000).train.lengths
    long = int((whole > 200).sum())
    assert long >= 1
    dropped = loaded(model, gsm8k, max_length=200, overlong="drop")
    cut = loaded(model, gsm8k, max_length=200, overlong="cut")
    assert len(dropped.train) == len(whole) - long
    assert f"{long} train examples are longer than max_length=200 tokens and were left out." in dropped.notes
    assert f"{long} train examples are longer than max_length=200 tokens and were cut." in cut.notes
    assert int(cut.train.lengths.max()) == 200


def test_the_automatic_limits_are_quantiles_of_the_training_data(models, gsm8k):
    data = loaded(models[0], gsm8k, max_length="auto")
    whole = loaded(models[0], gsm8k, max_length=1000).train
    assert data.max_length == int(torch.quantile(whole.lengths.double(), 0.99).ceil())
    assert any("training examples fit" in note for note in data.notes)
    answers = data.objective.generation.max_new_tokens
    assert answers == int(torch.quantile(whole.target.lengths.double(), 0.95).ceil())
    assert answers < int(whole.target.lengths.max()), "not the length of the longest answer"
    assert any(f"At most {answers} tokens are generated" in note for note in data.notes)


def test_text_without_labels_is_packed_and_every_next_token_counts(models):
    spec = spec_for(models[0], "local-text", max_length=16)
    texts = ["the cat sat on the mat and looked at the dog. " * 4, "a second text."]
    data = text_data(TextRows(dict.fromkeys(("train", "validation", "test"), texts)), spec)
    tokenizer = load_tokenizer(models[0])
    whole = [token for ids in tokenizer.encode_answers(texts) for token in ids]
    batch = data.train.take(torch.arange(len(data.train)))
    again = [token for row in range(len(batch)) for token in [*batch.source[row].tolist(), *batch.target[row].tolist()]]
    assert again == whole[: len(again)]
    assert len(whole) - len(again) < 2
    assert int(data.train.lengths.max()) == 16
    assert data.objective.count(batch.labels) == len(again) - len(batch)


def test_text_files_are_learned_and_judged_by_perplexity(models, tmp_path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "book.md").write_text("\n\n".join(f"The cat number {i} sat on the mat." for i in range(30)))
    spec = spec_for(
        models[0],
        "local-text",
        task_options={"data": str(tmp_path / "books")},
        components="2,4,1",
        steps=3,
        eval_every=3,
    )
    events = [event.to_dict() for _, event in train(resolve_runs([spec]), [tmp_path / "run"])]
    metrics = events[-1]["metrics"]
    assert metrics["test/perplexity"] == pytest.approx(torch.tensor(metrics["test/loss"]).exp().item(), rel=1e-4)
    assert metrics["test/accuracy"] == metrics["test/token_accuracy"]


def test_a_model_that_does_not_continue_text_is_refused(tmp_path):
    with pytest.raises(CdkaError, match="needs a causal language model"):
        text_data(TextRows({"train": ["x"]}), spec_for(str(save_tiny("bert", tmp_path / "bert")), "local-text"))


def test_long_texts_come_in_few_widths_and_lose_nothing(models, gsm8k):
    """The libraries below keep code and memory for each width: 40 MB for SmolLM2 on a CPU."""
    data = loaded(models[0], gsm8k, max_length=1000)
    rounded = data.in_few_widths()
    mean = float(data.train.lengths.double().mean())
    multiple = rounded.train.padding.multiple
    assert multiple in (8, 16, 32)
    assert 5 * multiple <= mean
    for rows in (torch.tensor([0, 1]), torch.tensor([5, 40, 2])):
        narrow, wide = data.train.take(rows), rounded.train.take(rows)
        longest, width = narrow.labels.shape[1], wide.labels.shape[1]
        assert width % multiple == 0
        assert longest <= width < longest + multiple
        assert wide.inputs["input_ids"].shape == wide.inputs["attention_mask"].shape == wide.labels.shape
        assert torch.equal(wide.labels[:, :longest], narrow.labels)
        assert torch.equal(wide.inputs["attention_mask"].sum(1), narrow.inputs["attention_mask"].sum(1))
        assert data.objective.count(wide.labels) == data.objective.count(narrow.labels)


def test_a_rounded_width_keeps_within_max_length_and_short_texts_are_not_rounded(models, gsm8k):
    data = loaded(models[0], gsm8k, max_length=203, overlong="cut").in_few_widths()
    longest = int(data.train.lengths.argmax())
    assert data.train.take(torch.tensor([longest])).labels.shape[1] == 203
    short = text_data(
        TextRows({split: ["the cat sat on the mat. " * 8] for split in ("train", "validation", "test")}),
        spec_for(models[0], "local-text", max_length=16),
    )
    assert short.in_few_widths() is short or short.in_few_widths().train.padding.multiple == 1


def test_answers_are_generated_on_as_many_threads_as_training_has(models):
    """Whatever number the process began with: OpenMP gives a new thread that one."""
    model, seen = AutoModelForCausalLM.from_pretrained(models[0]), []
    model.lm_head.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    how = Generation(max_new_tokens=2, eos_ids=(1,), pad_id=0, decode=str, judge=lambda *_: [])
    prompts = {name: torch.ones(1, 5, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            for _ in stream_tokens(model, prompts, how):
                pass
            assert seen.pop() == threads
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("of_all", "of_one", "chosen"), [(1.0, 2.0, 4), (2.0, 1.0, 1)])
def test_tokens_are_computed_on_the_faster_number_of_threads_and_both_are_tried_again(
    monkeypatch, of_all, of_one, chosen
):
    now, threads, used = 0.0, 4, []
    monkeypatch.setattr(generate.time, "perf_counter", lambda: now)
    monkeypatch.setattr(generate.torch, "get_num_threads", lambda: threads)

    def set_num_threads(number: int) -> None:
        nonlocal threads
        threads = number

    monkeypatch.setattr(generate.torch, "set_num_threads", set_num_threads)
    faster, token = generate._FasterThreads(4), torch.zeros(2, 1)
    for _ in range(2 * generate.TRY_THREADS_EVERY):
        now += of_all if threads == 4 else of_one
        used.append(threads)
        assert not faster(token, token).any()
    every, trial = generate.TRY_THREADS_EVERY, generate.TRIAL_TOKENS
    for start in (1, 1 + every):
        assert used[start : start + 2 * trial] == [4] * trial + [1] * trial
        assert set(used[start + 2 * trial : start + every]) == {chosen}


def test_the_head_gets_contiguous_rows_when_answers_are_generated(models):
    """Else torch copies the head's weight once for every row of the batch."""
    model, seen = AutoModelForCausalLM.from_pretrained(models[0]), []
    model.lm_head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].is_contiguous()))
    how = Generation(max_new_tokens=3, eos_ids=(1,), pad_id=0, decode=str, judge=lambda *_: [])
    prompts = {name: torch.ones(2, 5, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    for _ in stream_tokens(model, prompts, how):
        pass
    assert seen
    assert all(seen)
