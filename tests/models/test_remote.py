"""Models outside the catalogue: a worker reads config.json; nothing waits for the network longer than 3 s."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time

import pytest

from cdka import childproc
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.paths import assets_dir


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CDKA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def test_a_config_is_read_once_and_kept_from_a_directory_or_the_hub(tmp_path, monkeypatch):
    directory = tmp_path / "mine"
    directory.mkdir()
    shutil.copy(assets_dir() / "digits-vit" / "config.json", directory)
    shapes = find_model(str(directory))
    embedded = find_model("digits-vit")
    assert shapes.linears == embedded.linears
    assert shapes.base_params == embedded.base_params
    monkeypatch.setattr(childproc, "call", lambda *_, **__: pytest.fail("asked twice"))
    assert find_model(str(directory)) == shapes
    kept = dict(vars(shapes), name="someone/digits", hub_id="someone/digits")

    def fetch(function, request, **_):
        assert function == "cdka.models.hub:fetch_config"  # the shapes of this very file are known already
        assert request == {"hub_id": "someone/digits"}
        return str(directory / "config.json")

    monkeypatch.setattr(childproc, "call", fetch)
    assert vars(find_model("someone/digits")) == kept
    monkeypatch.setattr(childproc, "call", lambda *_, **__: pytest.fail("asked again"))
    assert vars(find_model("someone/digits")) == kept
    assert not [name for name in os.listdir(tmp_path / "home" / "models") if name.endswith(".tmp")]


def test_a_directory_without_config_or_with_an_adapter_says_what_it_needs(tmp_path):
    with pytest.raises(CdkaError, match=r"needs a config\.json"):
        find_model(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CdkaError, match="give its base model"):
        find_model(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not json", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ("{}", "must name a model_type"),
        (json.dumps({"model_type": "brand-new-thing"}), "does not know model_type 'brand-new-thing'"),
    ],
)
def test_an_unusable_config_is_told_in_one_line(tmp_path, content, words):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CdkaError, match=words) as caught:
        find_model(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offline", ["1", ""])
def test_an_unreachable_hub_fails_within_three_seconds_with_the_next_step(monkeypatch, offline):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HF_ENDPOINT", "http://192.0.2.1")  # reserved for documentation: never answers
    started = time.monotonic()
    with pytest.raises(CdkaError, match="catalogue name"):
        find_model("nobody/nothing-at-all")
    assert time.monotonic() - started < 3.0


def test_a_hub_that_accepts_and_never_answers_is_given_up_on(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_HUB_OFFLINE", "")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(CdkaError, match="cannot be reached"):
            find_model("nobody/nothing-at-all")
        assert time.monotonic() - started < 3.0


def test_a_close_hub_id_is_suggested(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CdkaError, match="Did you mean 'meta-llama/Llama-2-7b-hf'"):
        find_model("meta-llama/Llama-2-7b")
