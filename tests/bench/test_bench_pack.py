"""The bench of packs measures what the loop does: the ways that it tries, with the members really trained."""

from __future__ import annotations

from pathlib import Path

import torch

from cdka.bench import pack
from cdka.train.pack_schedule import ways


def test_every_way_is_timed_and_the_fastest_shared_one_told():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        device = torch.device("cpu")
        build = pack._cases(device, False)["digits-vit, 16 samples"]
        measured = pack._measure(build, 8, ("2,4,1", "1,4,1"), device, 1)
        alone = pack._measure(build, 1, ("2,4,1",), device, 1)
    finally:
        torch.set_num_threads(threads)
    assert set(measured["ways"]) == {str(n) for n in ways(8)} == {"8", "4", "1"}
    assert measured["share"] in (8, 4)
    assert measured["speedup"] == measured["ways"][str(measured["share"])]
    assert measured["ways"]["1"]["median"] == 1.0
    assert alone["share"] == 1, "the control"


def test_an_update_of_the_bench_moves_every_lane():
    device = torch.device("cpu")
    loaded, spec, train, objective = pack._cases(device, False)["digits-vit, 16 samples"]()
    specs = [spec.with_(components="2,4,1", seed=seed) for seed in range(2)]
    model = pack.attach(loaded, specs)
    members = [
        pack.Member.start(i, one, Path(), f"run{i}", pack.trainable(model, one, f"run{i}"), train)
        for i, one in enumerate(specs)
    ]
    before = [{n: p.detach().clone() for n, p in member.parameters.items()} for member in members]
    for groups in ([members], [[member] for member in members]):
        pack._update(groups, model, train, objective, device)
    for member, old in zip(members, before, strict=True):
        assert member.step == 2
        assert any(not torch.equal(p, old[n]) for n, p in member.parameters.items())
