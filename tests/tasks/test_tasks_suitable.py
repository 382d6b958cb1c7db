"""One rule says which tasks suit a model; every list and every check follows it."""

from __future__ import annotations

import pytest

from cdka.errors import CdkaError
from cdka.models.catalogue import find_model, list_models
from cdka.runs.resolve import resolve_run, spec_for
from cdka.tasks.catalogue import TASKS
from cdka.tasks.suitable import default_task, fits_kind, suitable_tasks, suits


def names(model: str) -> list[str]:
    return [task.name for task in suitable_tasks(find_model(model))]


def test_a_language_model_is_not_offered_pictures_nor_an_image_model_sentences():
    assert "cifar10" not in names("llama-2-7b")
    assert not [name for name in names("vit-base") if name.startswith("glue")]
    assert "local-images" in names("vit-base")


def test_a_sentence_encoder_classifies_own_texts_by_default():
    encoder = next(model for model in list_models() if model.kind == "text-classification")
    assert default_task(encoder).name == "local-classify"
    assert "metamath-gsm8k" not in names(encoder.name)


def test_the_embedded_models_have_the_tasks_made_for_them_first():
    assert names("digits-vit")[:2] == ["digits-flip", "digits"]
    assert names("math-lm")[0] == "math-chain"
    assert "digits-flip" not in names("vit-base")


def test_a_default_task_needs_no_download():
    for model in list_models():
        task = default_task(model)
        assert task is None or task.embedded or task.is_own_data, model.name


def test_what_is_offered_is_not_refused_at_the_door():
    for name in ("digits-vit", "math-lm", "llama-2-7b", "vit-base", "t5-small"):
        for task in suitable_tasks(find_model(name)):
            assert resolve_run(spec_for(name, task.name, method="lora", rank=1)).task is task


def test_what_cannot_be_trained_is_refused_at_the_door():
    model = find_model("llama-2-7b")
    for task in TASKS.values():
        if not fits_kind(task, model):
            assert not suits(task, model)
            with pytest.raises(CdkaError, match="the model must suit the task: got 'llama-2-7b'"):
                resolve_run(spec_for("llama-2-7b", task.name))
