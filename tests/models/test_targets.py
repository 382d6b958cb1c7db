"""Target selection against PEFT's own matching rule."""

from __future__ import annotations

import re

import pytest

from cdka.errors import CdkaError
from cdka.models.catalogue import find_model, list_models
from cdka.models.shapes import LinearShape, ModelShapes
from cdka.models.targets import peft_targets, select, target_names


def names_of(linears):
    return [linear.name for linear in linears]


def test_all_linear_is_everything_but_heads_and_embeddings():
    assert names_of(select(find_model("llama-2-7b"))) == [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
    assert "classifier" not in names_of(select(find_model("digits-vit")))
    assert not any("pooler" in s.path for s in select(find_model("bert-base")))


def test_roles_split_all_linear():
    shapes = find_model("t5-small")
    attention, mlp = select(shapes, "attention"), select(shapes, "mlp")
    assert set(attention) | set(mlp) == set(select(shapes))
    assert not set(attention) & set(mlp)
    assert set(names_of(mlp)) == {"wi", "wo"}
    bert = select(find_model("bert-base"), "mlp")
    assert [s.path.removeprefix("bert.encoder.layer.*.") for s in bert] == ["intermediate.dense", "output.dense"]


@pytest.mark.parametrize("said", ["q_proj,v_proj", ["v_proj", "q_proj"], r".*\.(q|v)_proj", "q_proj, v_proj"])
def test_names_lists_and_regular_expressions_pick_in_model_order(said):
    assert names_of(select(find_model("llama-2-7b"), said)) == ["q_proj", "v_proj"]


def test_a_longer_ending_picks_one_kind_of_layer_and_a_head_can_be_named():
    assert len(select(find_model("t5-small"), "decoder.block.*.layer.*.EncDecAttention.q")) == 1
    assert names_of(select(find_model("llama-2-7b"), ["lm_head"])) == ["lm_head"]
    assert names_of(select(find_model("llama-2-7b"), ["all-linear", "lm_head"]))[-1] == "lm_head"


def matched_by_peft(targets, path: str) -> bool:
    """PEFT's rule: a string is a regular expression for the whole name; a list gives names or their endings."""
    if isinstance(targets, str):
        return re.fullmatch(targets, path) is not None
    return any(path == name or path.endswith(f".{name}") for name in targets)


@pytest.mark.parametrize("said", ["all-linear", "attention", "mlp"])
def test_what_peft_is_handed_matches_exactly_the_selected_layers_of_every_model(said):
    for shapes in list_models():
        try:
            chosen = set(select(shapes, said))
        except CdkaError:
            assert shapes.kind == "causal-lm"  # a mixture of experts has no linear MLP
            continue
        targets = peft_targets(shapes, said)
        for linear in shapes.linears:
            for index in ("0", "17"):
                path = linear.path.replace("*", index)
                assert matched_by_peft(targets, path) == (linear in chosen), (shapes.name, path, targets)


def test_most_models_get_plain_names():
    assert peft_targets(find_model("llama-2-7b"), "attention") == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert isinstance(peft_targets(find_model("bert-base")), str)


def test_an_expression_may_take_some_layers_only_and_never_anything_but_linear_layers():
    shapes = find_model("llama-2-7b")
    said = r"model\.layers\.(0|1|31)\.self_attn.*"
    assert [(s.name, s.count) for s in select(shapes, said)] == [
        ("q_proj", 3),
        ("k_proj", 3),
        ("v_proj", 3),
        ("o_proj", 3),
    ]
    targets = peft_targets(shapes, said)
    assert matched_by_peft(targets, "model.layers.31.self_attn.q_proj")
    assert not matched_by_peft(targets, "model.layers.2.self_attn.q_proj")
    assert not matched_by_peft(targets, "model.layers.0.self_attn")
    assert [s.count for s in select(find_model("t5-small"), r"encoder\.block\.[0-3]\..*\.q")] == [4]


def test_an_expression_beside_names_takes_its_layers_only():
    shapes = find_model("llama-2-7b")
    said = ["q_proj", r"model\.layers\.[0-3]\.mlp\.up_proj", r"model\.layers\.[2-9]\.mlp\.up_proj"]
    assert [(s.name, s.count) for s in select(shapes, said)] == [("q_proj", 32), ("up_proj", 10)]
    targets = peft_targets(shapes, said)
    for path, taken in (("self_attn.q_proj", range(32)), ("mlp.up_proj", range(10)), ("mlp.down_proj", ())):
        for layer in range(32):
            assert matched_by_peft(targets, f"model.layers.{layer}.{path}") == (layer in taken), (path, layer)


def test_names_to_pick_from_are_grouped_by_role_and_each_selects():
    for shapes in list_models():
        for role, names in target_names(shapes).items():
            for name in names:
                assert {s.role for s in select(shapes, [name])} == {role}, (shapes.name, name)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("q_prj", "Did you mean 'q_proj'"),
        ("", "must name layers"),
        ([], "must name layers"),
        ("q_proj,,v_proj", "must name layers"),
        ([3], "must name layers"),
        (r".*\.nothing$", "matches no linear layer"),
        (r"(q_proj", "must be a regular expression"),
    ],
)
def test_bad_targets_are_told_with_what_there_is(said, words):
    with pytest.raises(CdkaError, match=words):
        select(find_model("llama-2-7b"), said)


def test_a_role_without_layers_says_why():
    with pytest.raises(CdkaError, match="fused experts are not linear layers"):
        select(find_model("mixtral-8x7b"), "mlp")


def test_a_model_without_linear_layers_is_refused():
    empty = ModelShapes("conv", None, "", "other", 10, ())
    with pytest.raises(CdkaError, match="needs linear layers"):
        select(empty)
    only_head = ModelShapes("head", None, "", "other", 10, (LinearShape("score", 4, 6, 1, "head"),))
    with pytest.raises(CdkaError, match="all-linear"):
        select(only_head)


def test_layers_that_are_called_by_a_number_are_adapted_as_they_are_counted():
    """Swin V2 computes its position bias by two linear layers of a Sequential."""
    paths = ("layers.*.bias_mlp.*", "layers.*.query")
    linears = tuple(LinearShape(path, 8, 8, 2, "attention") for path in paths)
    shapes = ModelShapes("swin-v2", None, "swinv2", "image-classification", 1000, linears)
    targets = peft_targets(shapes)
    assert isinstance(targets, str)
    assert matched_by_peft(targets, "base.layers.0.bias_mlp.2")
    assert matched_by_peft(targets, "layers.1.query")
