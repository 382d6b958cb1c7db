"""Packs that train: K runs over one frozen base, step by step equal to K separate runs."""

from __future__ import annotations

import pytest
import torch
import transformers
from peft import get_peft_model
from torch import nn

from cdka.adapter import CdkaConfig, CdkaLayer, adapter_parameters, packed
from cdka.adapter.mixing import Assignment
from cdka.components import Components

RUNS = [  # (components, alpha, learning rate, seed): the first two share every matrix product
    ((2, 8, 2), 8.0, 3e-3, 0),
    ((2, 8, 2), 8.0, 1e-3, 1),
    ((2, 8, 2), 4.0, 3e-3, 0),
    ((1, 4, 3), 8.0, 3e-3, 0),
    ((8, 2, 1), 8.0, 3e-3, 1),
]
BATCH, STEPS = 4, 50


def base(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, image_size=8, patch_size=4,
        num_channels=1, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config).to(dtype).eval()


def settings(components, alpha) -> CdkaConfig:
    r1, r2, r = components
    return CdkaConfig(r1=r1, r2=r2, r=r, alpha=alpha, target_modules=["q_proj", "v_proj", "fc1", "fc2"])


def batch(seed: int, step: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * seed + step)
    pixels = torch.randn(BATCH, 1, 8, 8, generator=generator, dtype=torch.float64)
    return pixels.to(dtype), torch.randint(0, 3, (BATCH,), generator=generator)


def optimizer(model: nn.Module, name: str, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(adapter_parameters(model, name), lr=lr)


def alone(run, dtype: torch.dtype) -> tuple[list[float], list[torch.Tensor]]:
    components, alpha, lr, seed = run
    model = base(dtype)
    torch.manual_seed(seed)
    model = get_peft_model(model, settings(components, alpha)).train()
    adam, losses = optimizer(model, "default", lr), []
    for step in range(STEPS):
        pixels, labels = batch(seed, step, dtype)
        loss = nn.functional.cross_entropy(model(pixel_values=pixels).logits, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(adapter_parameters(model, "default"), 1.0)
        adam.step()
        adam.zero_grad()
        losses.append(loss.item())
    return losses, [p.detach() for p in adapter_parameters(model, "default")]


def together(dtype: torch.dtype) -> dict[str, tuple[list[float], list[torch.Tensor]]]:
    model = base(dtype)
    names = [f"run{i}" for i in range(len(RUNS))]
    for i, (components, alpha, _, seed) in enumerate(RUNS):
        torch.manual_seed(seed)
        if i == 0:
            model = get_peft_model(model, settings(components, alpha), adapter_name=names[0])
        else:
            model.add_adapter(names[i], settings(components, alpha))
    model.train()
    adams = [optimizer(model, name, lr) for name, (_, _, lr, _) in zip(names, RUNS, strict=True)]
    losses: list[list[float]] = [[] for _ in RUNS]
    with packed(model, names):
        for step in range(STEPS):
            batches = [batch(seed, step, dtype) for *_, seed in RUNS]
            logits = model(pixel_values=torch.cat([pixels for pixels, _ in batches])).logits
            own = [
                nn.functional.cross_entropy(part, labels)
                for part, (_, labels) in zip(logits.chunk(len(RUNS)), batches, strict=True)
            ]
            torch.stack(own).sum().backward()
            for i, (name, adam) in enumerate(zip(names, adams, strict=True)):
                nn.utils.clip_grad_norm_(adapter_parameters(model, name), 1.0)
                adam.step()
                adam.zero_grad()
                losses[i].append(own[i].item())
    return {
        name: (losses[i], [p.detach() for p in adapter_parameters(model, name)]) for i, name in enumerate(names)
    }  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_fifty_steps_of_a_heterogeneous_pack_equal_separate_runs(dtype, tolerance):
    pack = together(dtype)
    finals = []
    for i, run in enumerate(RUNS):
        losses, parameters = alone(run, dtype)
        torch.testing.assert_close(torch.tensor(pack[f"run{i}"][0]), torch.tensor(losses), rtol=tolerance, atol=0)
        if dtype == torch.float64:
            for p, expected in zip(pack[f"run{i}"][1], parameters, strict=True):
                torch.testing.assert_close(p, expected, rtol=1e-7, atol=1e-10)
        finals.append(losses[-1])
    assert len(set(finals)) == len(RUNS)


def test_a_run_that_becomes_nan_leaves_the_others_untouched():
    model = base(torch.float64)
    model = get_peft_model(model, settings((2, 8, 2), 8.0), adapter_name="run0")
    model.add_adapter("run1", settings((2, 8, 2), 8.0))
    pixels, _ = batch(0, 0, torch.float64)
    pixels = torch.cat([pixels, pixels])
    with packed(model, ["run0", "run1"]):
        expected = model(pixel_values=pixels).logits[BATCH:]
        expected.square().sum().backward()
        grads = [p.grad.clone() for p in adapter_parameters(model, "run1")]
        model.zero_grad()
        with torch.no_grad():
            for p in adapter_parameters(model, "run0"):
                p.fill_(float("nan"))
        logits = model(pixel_values=pixels).logits
        (logits[:BATCH].square().sum() + logits[BATCH:].square().sum()).backward()
    assert logits[:BATCH].isnan().all()
    torch.testing.assert_close(logits[BATCH:], expected)
    for p, grad in zip(adapter_parameters(model, "run1"), grads, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_neighbours_of_one_shape_share_their_matrix_products():
    model = base(torch.float64)
    model = get_peft_model(model, settings((2, 8, 2), 8.0), adapter_name="run0")
    for i, (components, alpha, *_) in enumerate(RUNS[1:], start=1):
        model.add_adapter(f"run{i}", settings(components, alpha))
    layer = next(m for m in model.modules() if isinstance(m, CdkaLayer))
    x = torch.empty(10, 32)
    grouped = layer._plan(x, Assignment.pack([f"run{i}" for i in range(5)]))
    assert [names for names, *_ in grouped] == [("run0", "run1"), ("run2",), ("run3",), ("run4",)]
    assert [(start, stop) for _, start, stop in grouped] == [(0, 4), (4, 6), (6, 8), (8, 10)]
    scattered = layer._plan(x, Assignment.pack(["run0", "run3", "__base__", "run1", "run2"]))
    assert [names for names, *_ in scattered] == [("run0",), ("run3",), ("run1",), ("run2",)]
    assert [(start, stop) for _, start, stop in scattered] == [(0, 2), (2, 4), (6, 8), (8, 10)]
    assert layer.components["run3"] == Components(1, 4, 3)


def test_names_by_sample_become_runs_in_order_or_sorted():
    assert Assignment.by_sample(["b", "b", "a"]).runs == (("b", 2), ("a", 1))
    mixed = Assignment.by_sample(["b", "a", "b", "__base__"])
    assert mixed.runs == (("__base__", 1), ("a", 1), ("b", 2))
    assert mixed.order == (3, 1, 0, 2)
