"""Bundles that somebody made on purpose: resealed nonsense, bombs, pickles. Refused in a line, never a traceback."""

from __future__ import annotations

import ast
import json
import os
import pickle
import random
import shutil
import struct
import zipfile

import pytest
from compare_store import fill
from compare_synthetic import grid
from test_compare_exports import HOSTILE

from cdka.compare.bundle import import_bundle, layout, unpack, write_bundle
from cdka.compare.bundle.check import check
from cdka.compare.comparison import compare
from cdka.compare.exports.script import script, write_reproduction
from cdka.compare.source import StoreSource
from cdka.errors import CdkaError
from cdka.runs.store import Store

STRANGE = [
    None,
    True,
    0,
    -1,
    3.7,
    1e308,
    "1e999",
    10**30,
    -(10**400),
    "",
    "x" * 50,
    "x" * 200_000,
    "../../etc",
    [],
    {},
    [[]],
    "<script>alert(1)</script>",
    [1, "a"],
    {"a": {}},
    2**63,
    "nan",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The files of a small bundle, and the bundle as a zip."""
    folder = tmp_path_factory.mktemp("fuzz")
    store = Store(folder / "home")
    source = StoreSource(store, [fill(store, "c", grid(r1=(1, 2), seeds=2), points=3)], name="c")
    path = write_bundle(compare(source), source, folder / "claim.zip", figures=False)
    with zipfile.ZipFile(path) as file:
        file.extractall(folder / "files")
    return folder / "files", path


def places(document, path=()):
    """The path of every value, the first three of each list."""
    yield path
    items = enumerate(document[:3]) if isinstance(document, list) else getattr(document, "items", tuple)()
    for key, item in items:
        yield from places(item, (*path, key))


def mutated(document, rng: random.Random):
    """``document`` with one value removed, added or replaced."""
    *parents, last = rng.choice(list(places(document))[1:])
    inner = document
    for key in parents:
        inner = inner[key]
    if rng.random() < 0.15:
        del inner[last]
    elif rng.random() < 0.1 and isinstance(inner, dict):
        inner["new"] = rng.choice(STRANGE)
    else:
        inner[last] = rng.choice(STRANGE)
    return document


def reseal(root):
    """Make the manifest agree with whatever the files say now, as someone who knows the format would."""
    manifest = json.loads((root / layout.MANIFEST).read_text())
    for name in (layout.RUNS, layout.PREDICTIONS, layout.COMPARISON):
        manifest["fields"][name] = layout.fields(name, json.loads((root / name).read_text()))
    for name, entry in manifest["files"].items():
        entry["sha256"] = layout.sha256(root / name)
    (root / layout.MANIFEST).write_text(json.dumps(manifest))


def test_resealed_nonsense_is_refused_in_a_line_or_harmless(made, tmp_path):
    """80 bundles with one strange value each, digests made good. What passes compares to the same numbers."""
    refused = []
    for seed in range(80):
        rng = random.Random(seed)
        root = tmp_path / "work"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(made[0], root)
        name = rng.choice([*[layout.RUNS] * 4, layout.PREDICTIONS, layout.COMPARISON, layout.MANIFEST])
        text = json.dumps(mutated(json.loads((root / name).read_text()), rng)).replace('"1e999"', "1e999")
        (root / name).write_text(text)
        if name != layout.MANIFEST:
            reseal(root)
        try:
            bundle = check(root)
        except CdkaError as refusal:
            refused.append((seed, str(refusal)))
        else:
            compare(bundle, bundle.measure(), bundle.reference())
    assert len(refused) > 40
    for seed, text in refused:
        assert len(text) < 700, seed
        assert "\n" not in text, seed
        assert ".json" in text or ".csv" in text, (seed, text)


def with_hostile_texts(value, rng, share):
    """A copy of JSON data of which this share of the texts, names of fields too, are hostile."""
    if isinstance(value, dict):
        return {
            rng.choice(HOSTILE) if rng.random() < share / 4 else key: with_hostile_texts(item, rng, share)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [with_hostile_texts(item, rng, share) for item in value]
    return rng.choice(HOSTILE) if isinstance(value, str) and rng.random() < share else value


@pytest.mark.parametrize("piece", [0, *(pytest.param(piece, marks=pytest.mark.slow) for piece in range(1, 100))])
def test_no_text_of_a_bundle_becomes_code(made, tmp_path, piece):
    """10 bundles, 1,000 with ``-m slow``: the script of what passes holds the statements of the template alone."""
    template = ast.dump(ast.parse(script()))
    passed = 0
    for seed in range(10 * piece, 10 * piece + 10):
        rng = random.Random(seed)
        root = tmp_path / "work"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(made[0], root)
        for name in (layout.RUNS, layout.COMPARISON, layout.MANIFEST):
            if rng.random() < 0.7:
                text = with_hostile_texts(json.loads((root / name).read_text()), rng, rng.choice((0.002, 0.02, 0.5)))
                (root / name).write_text(json.dumps(text))
        if rng.random() < 0.9:
            try:
                reseal(root)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # too broken to be sealed
        try:
            bundle = check(root)
            comparison = compare(bundle, bundle.measure(), bundle.reference())
        except CdkaError:
            continue
        passed += 1
        write_reproduction(tmp_path, comparison, bundle)
        assert ast.dump(ast.parse((tmp_path / "reproduce.py").read_text())) == template
        for cell in json.loads((tmp_path / "reproduce.ipynb").read_text())["cells"]:
            assert not any(text in "".join(cell["source"]) for text in HOSTILE)
    if piece == 0:
        assert passed, "else this proves nothing"


def bomb(path, target, name, body, declared=None):
    """The bundle with one file replaced; ``declared`` lies about its size in both headers."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            if item.filename != name:
                new.writestr(item.filename, old.read(item))
        new.writestr(name, body)
    if declared is not None:
        raw = target.read_bytes()
        target.write_bytes(raw.replace(struct.pack("<I", len(body)), struct.pack("<I", declared)))
    return target


def test_a_json_that_would_unpack_to_gigabytes_is_refused_before_it_is_written(made, tmp_path, monkeypatch):
    monkeypatch.setitem(unpack.MAX_BYTES_OF, ".json", 1 << 20)
    path = bomb(made[1], tmp_path / "bomb.zip", "runs.json", b" " * (8 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CdkaError, match=r"runs\.json: it would unpack to 8,388,608 bytes"):
        import_bundle(path, tmp_path / "home")
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file()]


def test_a_size_that_lies_is_refused(made, tmp_path):
    path = bomb(made[1], tmp_path / "liar.zip", "README.txt", b"a" * 777_777, declared=10)
    with pytest.raises(CdkaError):
        import_bundle(path, tmp_path / "home")


@pytest.mark.parametrize("depth", [40, 200_000])
def test_deep_json_is_refused(made, tmp_path, depth):
    path = bomb(made[1], tmp_path / "deep.zip", "predictions.json", b'{"a":' + b"[" * depth + b"]" * depth + b"}")
    with pytest.raises(CdkaError, match=r"predictions\.json"):
        import_bundle(path, tmp_path / "home")


def test_a_pickle_under_an_allowed_name_is_never_loaded(made, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    for name in ("runs.json", "curves.csv"):
        with pytest.raises(CdkaError):
            import_bundle(bomb(made[1], tmp_path / "trap.zip", name, pickle.dumps(Trap())), tmp_path / "home")
    with zipfile.ZipFile(made[1]) as file:
        weights = next(n for n in file.namelist() if n.endswith("safetensors"))
    trap = bomb(made[1], tmp_path / "trap.zip", weights, pickle.dumps(Trap()))
    with pytest.raises(CdkaError, match="safetensors"):
        import_bundle(trap, tmp_path / "home")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*)*x", ".*.*.*.*x", "a" * 300, "(?#" + "x"])
def test_a_pattern_that_would_keep_a_reader_busy_is_refused(made, tmp_path, pattern):
    root = tmp_path / "work"
    shutil.copytree(made[0], root)
    config = next(root.glob("adapters/*/adapter_config.json"))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"alpha_pattern": {pattern: 1.0}}))
    reseal(root)
    with pytest.raises(CdkaError, match=r"adapter_config\.json, field alpha_pattern"):
        check(root)


def test_every_prefix_of_a_bundle_is_refused(made, tmp_path):
    whole = made[1].read_bytes()
    for part in range(0, len(whole), max(1, len(whole) // 20)):
        torn = tmp_path / "torn.zip"
        torn.write_bytes(whole[:part])
        with pytest.raises(CdkaError):
            import_bundle(torn, tmp_path / "home")
