"""Fetching from a Hub that is played by a local server: what works, and what is said, within seconds, where not."""

from __future__ import annotations

import time

import pytest
from fake_hub import files_of, playing

from cdka.errors import CdkaError
from cdka.models import locate as downloads
from cdka.models.locate import download_dataset, download_model, wait
from cdka.paths import assets_dir
from cdka.runs.events import Phase, Start
from cdka.runs.resolve import resolve_runs, spec_for
from cdka.train.loop import train


@pytest.fixture
def hub(monkeypatch, tmp_path):
    model = files_of(assets_dir() / "math-lm")
    pickled = {name: content for name, content in model.items() if not name.endswith(".safetensors")}
    repositories = {
        **{
            f"ours/{behaviour}": (behaviour, model)
            for behaviour in ("fine", "gated", "busy", "down", "silent", "stalls", "breaks", "huge")
        },
        "ours/pickle": ("fine", {**pickled, "pytorch_model.bin": b"x"}),
        "ours/no-config": ("fine", {"model.safetensors": b"x"}),
        "ours/code": ("fine", {**model, "modeling_evil.py": b"raise SystemExit", "sub/model.safetensors": b"x"}),
    }
    with playing(repositories) as running:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield running


def refusal(name):
    started = time.monotonic()
    with pytest.raises(CdkaError) as found:
        wait(download_model(name))
    assert "\n" not in str(found.value)
    assert time.monotonic() - started < 60
    return str(found.value)


def test_a_model_is_fetched_with_its_progress_and_then_found_without_the_network(hub, monkeypatch):
    fetching = download_model("ours/code")
    seen = []
    while True:
        try:
            seen.append(next(fetching))
        except StopIteration as end:
            folder = end.value
            break
    assert seen[0]["phase"] == "downloading"
    assert 0 <= seen[0]["done_bytes"] <= seen[0]["total_bytes"] > 1_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    assert not (folder / "modeling_evil.py").exists()
    assert not (folder / "sub").exists()
    hub.asked.clear()
    assert wait(download_model("ours/code")) == folder
    assert hub.asked == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert wait(download_model("ours/code")) == folder


def test_the_phase_of_the_download_is_an_event_of_the_run(hub, tmp_path):
    spec = spec_for("ours/fine", "math-chain", steps=1, batch_size=2, eval_every=1)
    phases = []
    for _, event in train(resolve_runs([spec]), [tmp_path / "run"]):
        if isinstance(event, Phase):
            phases.append(event.phase)
        if isinstance(event, Start):
            break
    assert list(dict.fromkeys(phases)) == ["loading", "downloading", "preparing data"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ours/nothing", "is not on the Hub, or is private. Check the spelling, or log in"),
        ("ours/gated", "is gated: accept its terms on its Hub page, then log in with: hf auth login"),
        ("ours/busy", "(HTTP 429)"),
        ("ours/down", "the Hub answered 503"),
        ("ours/silent", "the Hub cannot be reached"),
        ("ours/huge", "the disk has no room: 1000000.0 GB are needed"),
        ("ours/stalls", "stands still: no byte for 2 s"),
        ("ours/breaks", "the connection broke off while model 'ours/breaks' was fetched. Try again"),
        ("ours/pickle", "offers no weights in safetensors, and other formats can run code"),
        ("ours/no-config", "has no config.json"),
        ("not an id at all", "a Hub id is written owner/name"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line_with_the_next_step(hub, name, said, monkeypatch):
    if name == "ours/stalls":
        monkeypatch.setattr(downloads, "STALL_LIMIT_S", 2.0)
    assert said in refusal(name)


def test_a_hub_that_is_not_there_is_said_in_seconds(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "the Hub cannot be reached" in refusal("ours/fine")


def test_offline_means_offline(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids asking the Hub" in refusal("ours/fine")
    assert hub.asked == []


def test_the_token_is_huggingface_hubs_own(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    wait(download_model("ours/fine"))
    ours = [token for path, token in zip(hub.asked, hub.tokens, strict=True) if "ours/" in path]
    assert set(ours) == {"Bearer hf_abc"}


def test_what_has_arrived_of_a_broken_download_is_kept_for_the_next_attempt(hub, monkeypatch):
    monkeypatch.setattr(downloads, "STALL_LIMIT_S", 2.0)
    refusal("ours/stalls")
    monkeypatch.setattr(downloads, "STALL_LIMIT_S", 30.0)
    hub.repositories["ours/stalls"] = ("fine", hub.repositories["ours/fine"][1])
    assert (wait(download_model("ours/stalls")) / "model.safetensors").stat().st_size > 1_000_000


def test_a_data_set_is_fetched_by_its_patterns_and_outlives_the_hub(hub, monkeypatch):
    files = {"main/train.parquet": b"1", "main/test.parquet": b"2", "other/train.parquet": b"3", "load.py": b"4"}
    hub.repositories["ours/data"] = ("fine", {**files, "README.md": b"hello"})
    folder = wait(download_dataset("ours/data", ("main/*.parquet",)))
    assert sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()) == [
        "README.md",
        "main/test.parquet",
        "main/train.parquet",
    ]
    hub.repositories["ours/data"] = ("down", {})
    assert wait(download_dataset("ours/data", ("main/*.parquet",))) == folder
    with pytest.raises(CdkaError, match="the Hub answered 503 for data set"):
        wait(download_dataset("ours/data", ("other/*.parquet",)))
    hub.repositories["ours/data"] = ("fine", files)
    with pytest.raises(CdkaError, match="no files like nothing"):
        wait(download_dataset("ours/data", ("nothing/*",)))
