"""Two processes on the CPU: DistributedDataParallel and FSDP2 train to the same adapter as one process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from peft import get_peft_model
from torch import nn

from cdka.adapter import CdkaConfig, adapter_parameters

STEPS = 3


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16)).double()
    config = CdkaConfig(r1=2, r2=4, r=3, alpha=8.0, target_modules=["0", "2"], init_weights="random")
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def data(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    make = lambda n: torch.randn(8, n, generator=generator, dtype=torch.float64)  # noqa: E731
    return make(24), make(16)


def train(model: nn.Module, parameters: list[nn.Parameter], rank: int = 0, world: int = 1) -> None:
    adam = torch.optim.AdamW(parameters, lr=0.01)
    for step in range(STEPS):
        x, y = (part.chunk(world)[rank] for part in data(step))
        nn.functional.mse_loss(model(x), y).backward()
        adam.step()
        adam.zero_grad()


def worker(rank: int, world: int, kind: str, directory: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=world)
    try:
        model = network()
        if kind == "ddp":
            train(nn.parallel.DistributedDataParallel(model), adapter_parameters(model, "default"), rank, world)
            trained = [p.detach() for p in adapter_parameters(model, "default")]
        else:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh("cpu", (world,))
            for layer in (model.base_model.model[0], model.base_model.model[2]):
                fully_shard(layer, mesh=mesh)
            fully_shard(model, mesh=mesh)
            train(model, [p for p in model.parameters() if p.requires_grad], rank, world)
            trained = [p.full_tensor().detach() for p in adapter_parameters(model, "default")]
        if rank == 0:
            torch.save(trained, Path(directory) / "trained")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or not dist.is_available(), reason="needs torch.distributed with gloo")
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_train_to_the_same_adapter_as_one(kind, tmp_path):
    mp.spawn(worker, (2, kind, str(tmp_path)), nprocs=2)
    trained = torch.load(tmp_path / "trained")
    alone = network()
    start = [p.detach().clone() for p in adapter_parameters(alone, "default")]
    train(alone, adapter_parameters(alone, "default"))
    for p, expected, initial in zip(trained, adapter_parameters(alone, "default"), start, strict=True):
        torch.testing.assert_close(p, expected.detach(), rtol=1e-8, atol=1e-10)
        assert not torch.allclose(p, initial)
