"""Damaged and foreign files: one line each, with what was found and what to do; nothing is written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from foreign_files import loha, lokr, lora, named, save, takenoko
from safetensors.numpy import save as to_bytes
from safetensors.numpy import save_file

from cdka.adapter_files.tensors import CONFIG_FILE, WEIGHTS_FILE
from cdka.cli.main import main

RNG = np.random.default_rng(0)
LORA = lora(RNG, 6, 8, 2, 1.0)[0]
PEFT_LORA = {"base_model.model.q.lora_A.weight": np.ones((2, 8)), "base_model.model.q.lora_B.weight": np.ones((6, 2))}


def bare(**fields):
    """A kohya file of one module, with fields added, replaced, or (None) left out."""
    tensors = {**LORA, **{name.replace("__", "."): value for name, value in fields.items()}}
    return lambda place: save(
        place / "a.safetensors", named("lora_unet_", {"x": {k: v for k, v in tensors.items() if v is not None}})
    )


def peft(tensors=PEFT_LORA, **config):
    return lambda place: save(place / "a", tensors, {"peft_type": "LORA", "r": 2, "lora_alpha": 2, **config})


def with_bytes(name: str, content: bytes):
    def make(place):
        (place / name).write_bytes(content)
        return place / name

    return make


def folder(*names: str):
    def make(place):
        for name in names:
            (place / "a").mkdir(exist_ok=True)
            save_file(named("lora_unet_", {"x": LORA}), place / "a" / name)
        (place / "a").mkdir(exist_ok=True)
        return place / "a"

    return make


def config_text(text: str):
    def make(place):
        path = peft()(place)
        (path / CONFIG_FILE).write_text(text)
        return path

    return make


def single(**tensors):
    """A file with these tensors, ``__`` standing for a dot."""
    return lambda place: save(place / "a.safetensors", {k.replace("__", "."): v for k, v in tensors.items()})


def broken_header(place):
    blob = to_bytes(LORA)
    (place / "a.safetensors").write_bytes(blob[: len(blob) // 2])
    return place / "a.safetensors"


def packed_bits(place):
    blob = to_bytes(
        {
            "lora_unet_x.lora_down.weight": np.ones((2, 8), np.float16),
            "lora_unet_x.lora_up.weight": LORA["lora_up.weight"],
        }
    )
    size = int.from_bytes(blob[:8], "little")
    header = blob[8 : 8 + size].replace(b'"F16"', b'"I16"')
    (place / "a.safetensors").write_bytes(blob[:8] + header + blob[8 + size :])
    return place / "a.safetensors"


LOKR, LOHA = lokr(RNG, 2, 3, 4, 2, 2, 1.0, "2")[0], loha(RNG, 6, 8, 2, 1.0)[0]
TAKENOKO = takenoko(RNG, 3, 2, 4, 5, 2, 1.0)[0]
NAN = np.full((2, 8), np.nan)
CASES = {
    "no such path": (lambda place: place / "nowhere", "an adapter is a safetensors file or a folder with one: got"),
    "an empty folder": (folder(), "or one safetensors file: got none in"),
    "two files in a folder": (folder("b.safetensors", "c.safetensors"), "got b.safetensors, c.safetensors in"),
    "an empty file": (with_bytes("a.safetensors", b""), "must be a whole safetensors file"),
    "half a file": (broken_header, "must be a whole safetensors file"),
    "text": (with_bytes("a.safetensors", b"<html>404</html>"), "must be a whole safetensors file"),
    "a pickle": (with_bytes("adapter_model.bin", b"\x80\x02}"), "which cannot run code: got the pickle"),
    "a configuration that is not JSON": (config_text("{"), "adapter_config.json must be JSON"),
    "a configuration that is a list": (config_text("[1]"), "must hold one JSON object"),
    "another method of PEFT": (peft(peft_type="IA3"), "got peft_type 'IA3'"),
    "a configuration of another method": (peft(peft_type="LOKR"), "says lokr, its tensors are lora"),
    "DoRA": (peft(use_dora=True), "is DoRA, which also rescales the base weight"),
    "PiSSA": (peft(init_lora_weights="pissa_niter_4"), "whose start (pissa_niter_4) changed the base weights"),
    "fused experts": (peft(target_parameters=["experts.w"]), "a LoRA on parameters of fused experts"),
    "a bias of LoRA": (
        peft({**PEFT_LORA, "base_model.model.q.lora_B.bias": np.ones(6)}),
        "which is a LoRA with a bias",
    ),
    "alpha that is text": (peft(lora_alpha="lots"), "lora_alpha must be a number: got 'lots' for 'q'"),
    "a base model": (
        lambda place: save(place / "a.safetensors", {"model.layers.0.q_proj.weight": np.ones((4, 4))}),
        "no adapter is in",
    ),
    "DoRA of kohya": (bare(dora_scale=np.ones((6, 1))), "x' in"),
    "a Tucker LoRA": (bare(lora_mid__weight=np.ones((2, 2, 3, 3))), "lora_mid, which is a convolution in Tucker form"),
    "a Tucker LoKr": (
        lambda place: save(
            place / "a.safetensors", named("lycoris_", {"x": {**LOKR, "lokr_t2": np.ones((2, 2, 3, 3))}})
        ),
        "lokr_t2, which is a convolution in Tucker form",
    ),
    "an OFT": (single(lora_unet_x__oft_blocks=np.ones((2, 3, 3))), "which is OFT"),
    "a full difference": (single(lora_unet_x__diff=np.ones((2, 3))), "a full difference"),
    "half a LoRA": (bare(lora_up__weight=None), "needs all its factors: 'x'"),
    "half a LoHa": (
        lambda place: save(
            place / "a.safetensors", named("", {"x": {k: v for k, v in LOHA.items() if k != "hada_w2_b"}})
        ),
        "needs all its factors: 'x'",
    ),
    "ranks that differ": (bare(lora_up__weight=np.ones((6, 3))), "'x' has 2 rows in A, 3 columns in B"),
    "NaN": (bare(lora_down__weight=NAN), "'x' has NaN, infinity or nothing in lora_down"),
    "packed integers": (packed_bits, "got I16 in 'x.lora_down'"),
    "two models in one file": (
        lambda place: save(
            place / "a.safetensors", {**named("lora_unet_", {"x": LORA}), **named("lora_te_", {"y": LORA})}
        ),
        "has parts for 'lora_te_', 'lora_unet_'. Choose one with --only lora_te_",
    ),
    "two methods in one file": (
        lambda place: save(place / "a.safetensors", named("lora_unet_", {"x": LORA, "y": LOKR})),
        "adapters of one method",
    ),
    "takenoko with other sizes": (
        lambda place: save(
            place / "a.safetensors", named("cdka_unet_", {"x": {**TAKENOKO, "cdka_in_block_size": np.array(7)}})
        ),
        "cdka_in_block_size is a size of lora_down",
    ),
    "takenoko with other components": (
        lambda place: save(place / "a.safetensors", named("cdka_unet_", {"x": {**TAKENOKO, "cdka_r1": np.array(3)}})),
        "CDKA (r1, r2, r) = (3, 4, 2) has r1 r rows in A",
    ),
    "research code with text for r1": (peft(r1="two", r2=2), "r1 must be a positive integer: got 'two'"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_or_foreign_file_is_refused_in_one_line(name, tmp_path, capsys):
    make, message = CASES[name]
    place = tmp_path / "place"
    place.mkdir()
    path = make(place)
    assert main(["import", str(path), str(tmp_path / "out"), "--json"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_the_intact_files_beside_them_are_read(tmp_path, capsys):
    for name, make in {"kohya": bare(), "peft": peft(), "folder": folder("one.safetensors")}.items():
        place = tmp_path / name
        place.mkdir()
        assert main(["import", str(make(place)), str(tmp_path / f"{name}-out"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["exact"] is True
        assert (tmp_path / f"{name}-out" / WEIGHTS_FILE).is_file()


def test_paths_are_read_as_people_paste_them(tmp_path, monkeypatch, capsys):
    """With quotes, from the home folder, as an address of a file; a page of the Hub is answered with the way."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "My Downloads").mkdir()
    peft()(tmp_path / "My Downloads")
    ways = ("~/My Downloads/a/", f'"{tmp_path}/My Downloads/a"', f"file://{tmp_path}/My%20Downloads/a")
    for number, way in enumerate(ways):
        assert main(["import", way, f"~/out {number}", "--json"]) == 0
        assert (tmp_path / f"out {number}" / WEIGHTS_FILE).is_file()
    assert main(["import", "https://huggingface.co/someone/an-adapter", str(tmp_path / "no")]) == 2
    assert "got 'someone/an-adapter' (not found). One on the Hub is downloaded first" in capsys.readouterr().err


def test_one_model_of_a_file_for_two_can_be_chosen(tmp_path, capsys):
    tensors = {**named("lora_unet_", {"x_y": LORA}), **named("lora_te_", {"y": LORA})}
    path = save(tmp_path / "a.safetensors", tensors)
    assert main(["import", str(path), str(tmp_path / "out"), "--only", "lora_unet_", "--json"]) == 0
    captured = capsys.readouterr()
    assert [m["name"] for m in json.loads(captured.out)["modules"]] == ["x_y"]
    assert "joined by underscores" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "lorra"], "unknown kind of adapter 'lorra' for --to. Did you mean 'lora'"),
        (["--to", "cdka", "--approximate"], "--to cdka is always exact: leave --approximate out"),
        (["--to", "lokr", "--max-rank", "3"], "a largest rank is for LoRA (lora, kohya): got --max-rank 3"),
        (["--to", "lora", "--max-rank", "0"], "--max-rank must be a positive integer: got 0"),
        (["--to", "lora", "--model", "/nowhere/at/all"], "a model directory must exist"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(arguments, message, tmp_path, capsys):
    path = bare()(tmp_path)
    assert main(["export", str(path), str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_weights_that_are_no_numbers_are_refused(tmp_path, capsys):
    path = str(bare()(tmp_path))
    assert main(["add", path, path, str(tmp_path / "out"), "--weights", "1,inf"]) == 2
    assert "--weights takes two finite numbers: got '1,inf'" in capsys.readouterr().err
