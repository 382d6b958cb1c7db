"""Claim bundles: the same page on another machine; refused, with file and field, when anything was touched."""

from __future__ import annotations

import csv
import io
import json
import stat
import zipfile

import pandas as pd
import pytest
from compare_store import fill
from compare_synthetic import grid

from cdka.compare.bundle import import_bundle, imported, imported_bundle, write_bundle
from cdka.compare.bundle.check import check
from cdka.compare.bundle.layout import first_difference
from cdka.compare.comparison import compare
from cdka.compare.measure import Measure
from cdka.compare.report import document
from cdka.compare.source import StoreSource
from cdka.errors import CdkaError
from cdka.runs.store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle of a small sweep with a failed run, and the comparison it was made from."""
    folder = tmp_path_factory.mktemp("claim")
    store = Store(folder / "home")
    sweep_id = fill(store, "r1 ladder", grid(r1=(1, 2), seeds=3), ends={5: "failed"})
    source = StoreSource(store, [sweep_id], name="r1 ladder")
    comparison = compare(source, reference="cdka 2,4,1")
    return write_bundle(comparison, source, folder / "claim.zip", figures=False), comparison, source


def rewrite(path, target, edit):
    """A copy of a bundle whose files went through ``edit(name, bytes)``: None drops a file."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            body = edit(item.filename, old.read(item))
            if body is not None:
                new.writestr(item.filename, body)
    return target


def refused(path, home) -> str:
    with pytest.raises(CdkaError) as refusal:
        import_bundle(path, home)
    assert imported(home) == {}
    assert not [p for p in home.rglob("*") if p.is_file()]
    return str(refusal.value)


def test_another_machine_shows_the_same_numbers(made, tmp_path):
    path, comparison, source = made
    name, bundle = import_bundle(path, tmp_path)
    again = compare(bundle, bundle.measure(), bundle.reference())
    assert first_difference(document(again), json.loads(json.dumps(bundle.claimed))) is None
    pd.testing.assert_frame_equal(again.arms, comparison.arms)
    pd.testing.assert_frame_equal(again.verdicts, comparison.verdicts)
    run_ids = comparison.frame["run_id"].to_list()
    pd.testing.assert_frame_equal(bundle.curves(run_ids), source.curves(run_ids), check_dtype=False)
    pd.testing.assert_frame_equal(bundle.predictions(run_ids[0]), source.predictions(run_ids[0]), check_dtype=False)
    assert bundle.versions(run_ids[0]) == source.versions(run_ids[0])
    assert list(bundle.errors().values()) == ["loss is not a number at step 60"]
    assert (bundle.adapter_dir(run_ids[0]) / "adapter_model.safetensors").is_file()
    assert imported(tmp_path) == {name: "r1 ladder"}
    assert import_bundle(path, tmp_path)[0] == name


def test_a_bundle_can_be_bundled_again(made, tmp_path):
    _, bundle = import_bundle(made[0], tmp_path / "a")
    again = write_bundle(compare(bundle, Measure(), bundle.reference()), bundle, tmp_path / "again.zip", figures=False)
    assert import_bundle(again, tmp_path / "b")[1].claimed == bundle.claimed


def test_no_table_of_a_bundle_holds_a_formula(tmp_path):
    store = Store(tmp_path / "home")
    formula = '=HYPERLINK("http://evil.example")'
    specs = [spec.with_(model=formula, task=formula) for spec in grid(r1=(1, 2), seeds=2)]
    source = StoreSource(store, [fill(store, formula, specs)])
    path = write_bundle(compare(source), source, tmp_path / "claim.zip", figures=False)
    with zipfile.ZipFile(path) as file:
        tables = {name: file.read(name).decode() for name in file.namelist() if name.endswith(".csv")}
    cells = [cell for text in tables.values() for row in csv.reader(io.StringIO(text)) for cell in row]
    assert f"'{formula}" in cells
    assert [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))] == []
    assert [cell for cell in cells if cell.startswith("-") and not is_number(cell)] == []


def is_number(text):
    try:
        return float(text) is not None
    except ValueError:
        return False


def edit_json(name, change):
    def edit(found, body):
        if found != name:
            return body
        document = json.loads(body)
        change(document)
        return json.dumps(document, indent=1).encode()

    return edit


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "runs.json",
            lambda d: d["runs"][1]["metrics"].update({"test/accuracy": 1}),
            ["runs.json", "runs[1].metrics.test/accur"],
        ),
        ("runs.json", lambda d: d["runs"][2]["spec"].update(lr=0.5), ["runs.json", "runs[2].spec.lr"]),
        ("runs.json", lambda d: d["runs"][0].update(seconds=0.1), ["runs.json", "runs[0].seconds"]),
        ("runs.json", lambda d: d["runs"][0].update(extra=1), ["runs.json", "runs[0].extra"]),
        ("runs.json", lambda d: d["runs"].pop(), ["runs.json", "runs[5]"]),
        ("comparison.json", lambda d: d["arms"][0].update(mean=0.99), ["comparison.json", "arms[0].mean"]),
        ("predictions.json", lambda d: next(iter(d.values()))["predicted"].pop(), ["predictions.json", ".predicted"]),
        ("manifest.json", lambda d: d.update(version=3), ["manifest.json", "format"]),
        ("manifest.json", lambda d: d.pop("files"), ["manifest.json", "files", "missing"]),
        ("manifest.json", lambda d: d.update(name=3), ["manifest.json", "name", "wrong type"]),
    ],
)
def test_hand_edits_are_refused_with_file_and_field(made, tmp_path, name, change, words):
    message = refused(rewrite(made[0], tmp_path / "edited.zip", edit_json(name, change)), tmp_path / "home")
    for word in words:
        assert word in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["methods.md", "curves.csv", "reproduce.py", "tables/arms.csv"])
def test_a_changed_byte_is_refused_with_its_file(made, tmp_path, name):
    path = rewrite(made[0], tmp_path / "edited.zip", lambda found, body: body + b" " if found == name else body)
    assert name in refused(path, tmp_path / "home")


def test_a_resealed_claim_must_still_follow_from_its_runs(made, tmp_path):
    """Someone who also recomputes the digests is caught by the numbers: by the predictions, and by the runs."""
    from cdka.compare.bundle.layout import fields

    def reseal(name, change):
        import hashlib

        with zipfile.ZipFile(made[0]) as file:
            bodies = {item.filename: file.read(item) for item in file.infolist()}
        document = json.loads(bodies[name])
        change(document)
        bodies[name] = json.dumps(document).encode()
        manifest = json.loads(bodies["manifest.json"])
        manifest["files"][name]["sha256"] = hashlib.sha256(bodies[name]).hexdigest()
        manifest["fields"][name] = fields(name, document)
        bodies["manifest.json"] = json.dumps(manifest).encode()
        target = tmp_path / "resealed.zip"
        with zipfile.ZipFile(target, "w") as file:
            for found, body in bodies.items():
                file.writestr(found, body)
        return target

    better = reseal("runs.json", lambda d: d["runs"][0]["metrics"].update({"test/accuracy": 0.99}))
    message = refused(better, tmp_path / "home")
    assert "runs[0].metrics.test/accuracy" in message
    assert "contradicts predictions.json" in message
    bold = reseal("comparison.json", lambda d: d["verdicts"][0].update(verdict="better"))
    assert "verdicts[0].verdict" in refused(bold, tmp_path / "home")
    strange = reseal("runs.json", lambda d: d["runs"][0]["spec"].update(method="magic"))
    assert "runs[0].spec" in refused(strange, tmp_path / "home")


def test_a_version_with_other_words_and_settings_still_opens_it(made, tmp_path):
    """Sentences and digests of arms may change from one version to the next; the numbers may not."""
    from cdka.compare.bundle.layout import fields, sha256

    with zipfile.ZipFile(made[0]) as file:
        file.extractall(tmp_path / "b")
    root = tmp_path / "b"
    claim, runs = (json.loads((root / name).read_text()) for name in ("comparison.json", "runs.json"))
    for row in claim["verdicts"] + claim["trends"]:
        row["text"] = "put otherwise"
    for row in claim["arms"]:
        row["arm"] = "0" * 8
    for item in runs["runs"]:
        del item["spec"]["dtype"]
    manifest = json.loads((root / "manifest.json").read_text())
    for name, found in (("comparison.json", claim), ("runs.json", runs)):
        (root / name).write_text(json.dumps(found))
        manifest["fields"][name] = fields(name, found)
        manifest["files"][name]["sha256"] = sha256(root / name)
    (root / "manifest.json").write_text(json.dumps(manifest))
    assert check(root).claimed["verdicts"][0]["text"] == "put otherwise"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "/etc/evil",
        "adapters/../../evil.json",
        "adapters/r-1/adapter_model.bin",
        "figures/a.js",
        "a\\b.json",
        "tables/x.csv/../../y",
        "sitecustomize.py",
        "adapters/r-1/config.pkl",
    ],
)
def test_names_that_a_bundle_does_not_hold_are_refused_before_anything_is_written(made, tmp_path, name):
    target = tmp_path / "evil.zip"
    with zipfile.ZipFile(target, "w") as file:
        file.writestr(name, b"evil")
    assert "a bundle holds no such file" in refused(target, tmp_path / "home")
    assert not list(tmp_path.rglob("evil*.py"))


def test_links_are_refused(made, tmp_path):
    target = tmp_path / "link.zip"
    with zipfile.ZipFile(target, "w") as file:
        link = zipfile.ZipInfo("runs.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    assert "runs.json" in refused(target, tmp_path / "home")


def test_missing_unlisted_and_doubled_files_are_refused(made, tmp_path):
    gone = rewrite(made[0], tmp_path / "gone.zip", lambda name, body: None if name == "methods.md" else body)
    assert "methods.md" in refused(gone, tmp_path / "home")
    more = rewrite(made[0], tmp_path / "more.zip", lambda _, body: body)
    with zipfile.ZipFile(more, "a") as file:
        file.writestr("tables/more.csv", "a")
    assert "tables/more.csv" in refused(more, tmp_path / "home")
    twice = rewrite(made[0], tmp_path / "twice.zip", lambda _, body: body)
    with zipfile.ZipFile(twice, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("methods.md", "a")
    assert "occurs twice" in refused(twice, tmp_path / "home")


def test_a_torn_file_is_refused(made, tmp_path):
    torn = tmp_path / "torn.zip"
    torn.write_bytes(made[0].read_bytes()[:-400])
    assert "whole zip file" in refused(torn, tmp_path / "home")
    text = tmp_path / "text.zip"
    text.write_text("hello")
    assert "whole zip file" in refused(text, tmp_path / "home")


def test_an_imported_bundle_that_was_edited_on_disk_is_refused(made, tmp_path):
    name, bundle = import_bundle(made[0], tmp_path)
    (bundle.root / "methods.md").write_text("we won")
    with pytest.raises(CdkaError, match=r"methods\.md"):
        imported_bundle(tmp_path, name)
    with pytest.raises(CdkaError, match="no imported bundle"):
        imported_bundle(tmp_path, "../home")


def test_a_failed_write_leaves_nothing(made, tmp_path, monkeypatch):
    import cdka.compare.bundle.write as writing

    _, comparison, source = made
    monkeypatch.setattr(writing.layout, "sha256", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_bundle(comparison, source, tmp_path / "claim.zip", figures=False)
    assert not [path for path in tmp_path.iterdir() if "claim" in path.name]
