"""Downloads by huggingface_hub, for a child process: cache, token and endpoint follow its own conventions.

HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE hold. Only configuration, tokenizer and safetensors are fetched of a
model: no code, no pickles.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, errors, hf_hub_download, snapshot_download, try_to_load_from_cache
from tqdm.auto import tqdm

from cdka.errors import CdkaError

ANSWER_LIMIT_S = 5.0
"""Time that the Hub may take to list the files of a repository."""
CONFIG_ANSWER_LIMIT_S = 2.0
REPORT_EVERY_S = 0.5
MIN_FREE_BYTES = 200_000_000
"""Space that a download must leave on the disk."""
_TEXT_ENDINGS = (".json", ".txt", ".model", ".jinja")
_BROKEN_CONNECTION = ("RemoteProtocolError", "ReadError", "IncompleteRead", "ConnectionResetError")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")

Progress = Generator[dict[str, Any], None, str]
"""Yields ``{"phase", "done_bytes", "total_bytes"}`` and returns the folder."""


def fetch_config(hub_id: str) -> str:
    """The path of the model's config.json in the local cache. Raises CdkaError where the Hub does not give it."""
    try:
        cached = try_to_load_from_cache(hub_id, "config.json")
        if isinstance(cached, str):
            return cached
        return hf_hub_download(hub_id, "config.json", etag_timeout=CONFIG_ANSWER_LIMIT_S)
    except Exception as error:
        raise CdkaError(explain(error, "model", hub_id)) from error


def fetch_model(hub_id: str, stall_limit_s: float) -> Progress:
    """Download the missing files of a model into the local cache. Raises CdkaError."""
    try:
        cached = cached_model(hub_id)
        if cached is not None:
            return str(cached)
        if constants.HF_HUB_OFFLINE:
            snapshot_download(hub_id, local_files_only=True)
            raise CdkaError(f"model {hub_id!r} is only partly in the local cache, and HF_HUB_OFFLINE is set.")
        info = HfApi().model_info(hub_id, files_metadata=True, timeout=ANSWER_LIMIT_S)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        files = needed_files(sizes)
        if "config.json" not in files:
            raise CdkaError(f"model {hub_id!r} has no config.json: it is not a transformers model.")
        if not any(_WEIGHTS.fullmatch(name) for name in files):
            raise CdkaError(
                f"model {hub_id!r} offers no weights in safetensors, and other formats can run code: "
                "not loaded. Convert it, or choose another model."
            )
        return (yield from _download(hub_id, "model", {name: sizes[name] for name in files}, stall_limit_s))
    except Exception as error:
        raise CdkaError(explain(error, "model", hub_id)) from error


def fetch_dataset(hub_id: str, patterns: Sequence[str], stall_limit_s: float) -> Progress:
    """Download the files of a data set that match one of ``patterns`` (all data files where none is given).

    Where the Hub does not answer, a local copy serves that has something for every pattern. Raises CdkaError.
    """
    try:
        if constants.HF_HUB_OFFLINE:
            return _cached_dataset(hub_id, patterns)
        info = HfApi().dataset_info(hub_id, files_metadata=True, timeout=ANSWER_LIMIT_S)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if _is_needed(file.rfilename, patterns)}
        if not set(sizes) - {"README.md"}:
            raise CdkaError(f"data set {hub_id!r} has no files like {', '.join(patterns)}: its layout has changed.")
        return (yield from _download(hub_id, "dataset", sizes, stall_limit_s))
    except CdkaError:
        raise
    except Exception as error:
        try:
            folder = Path(_cached_dataset(hub_id, patterns))
            if patterns and all(any(folder.glob(pattern)) for pattern in patterns):
                return str(folder)
        except (ValueError, OSError):  # not in the cache either; huggingface_hub's errors are of these types
            pass
        raise CdkaError(explain(error, "data set", hub_id)) from error


def needed_files(names: Iterable[str]) -> list[str]:
    """The files of a repository that loading takes: configuration, tokenizer, and weights in safetensors."""
    return [name for name in names if "/" not in name and (name.endswith(_TEXT_ENDINGS) or _WEIGHTS.fullmatch(name))]


def _is_needed(name: str, patterns: Sequence[str]) -> bool:
    if name == "README.md" or any(fnmatch(name, pattern) for pattern in patterns):
        return True
    return not patterns and not name.endswith((".py", ".gitattributes"))


def cached_model(hub_id: str) -> Path | None:
    """The folder of the local cache that holds the whole model; None where something of it is missing."""
    try:
        config = try_to_load_from_cache(hub_id, "config.json")
    except errors.HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weights = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    else:
        weights = {"model.safetensors"}
    return folder if all((folder / name).is_file() for name in weights) else None


def _cached_dataset(hub_id: str, patterns: Sequence[str]) -> str:
    return snapshot_download(hub_id, repo_type="dataset", local_files_only=True, allow_patterns=list(patterns) or None)


class _ByteCount(tqdm):
    """A progress bar that shows nothing; ``done_bytes`` is the furthest of all bars that count bytes."""

    done_bytes = 0

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "disable": False, "leave": False})

    def display(self, *_: Any, **__: Any) -> None:
        """Show nothing."""

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more bytes, or files for the bar that counts those."""
        shown = super().update(n)
        if self.unit == "B":
            _ByteCount.done_bytes = max(_ByteCount.done_bytes, int(self.n))
        return shown


def _download(hub_id: str, repo_type: str, sizes: Mapping[str, int], stall_limit_s: float) -> Progress:
    """Fetch the main revision: only then does the cache note where it lies, so that it is found without the Hub."""
    cached = [name for name in sizes if isinstance(try_to_load_from_cache(hub_id, name, repo_type=repo_type), str)]
    total = sum(sizes.values())
    check_free_space(total - sum(sizes[name] for name in cached), Path(constants.HF_HUB_CACHE))
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["path"] = snapshot_download(
                hub_id,
                repo_type=repo_type,
                allow_patterns=[escape(name) for name in sizes],
                tqdm_class=_ByteCount,
            )
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    furthest, moved_at = 0, time.monotonic()
    while thread.is_alive():
        done = _ByteCount.done_bytes
        if done > furthest:
            furthest, moved_at = done, time.monotonic()
        if time.monotonic() - moved_at > stall_limit_s:
            raise CdkaError(
                f"the download of {hub_id!r} stands still: no byte for {stall_limit_s:.0f} s. Try again; what has "
                "arrived is kept."
            )
        yield {"phase": "downloading", "done_bytes": min(total, done), "total_bytes": total}
        thread.join(REPORT_EVERY_S)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["path"]


def check_free_space(needed_bytes: int, folder: Path) -> None:
    """Raises CdkaError where a download of this size would not leave ``MIN_FREE_BYTES`` on the disk."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes + MIN_FREE_BYTES > free:
        raise CdkaError(
            f"the disk has no room: {needed_bytes / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free in "
            f"{existing}. Free some space, or move the cache with HF_HOME."
        )


def explain(error: BaseException, kind: str, hub_id: str) -> str:
    """The reason in one line why the ``kind`` ("model" or "data set") cannot be downloaded, and the next step."""
    if isinstance(error, CdkaError):
        return str(error)
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{kind} {hub_id!r} is gated: accept its terms on its Hub page, then log in with: hf auth login "
            "(or set HF_TOKEN)."
        )
    if isinstance(error, errors.HFValidationError):
        return f"a Hub id is written owner/name: got {hub_id!r}."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{kind} {hub_id!r} is not on the Hub, or is private. Check the spelling, or log in with: hf auth login."
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE:
        return (
            f"{kind} {hub_id!r} is not in the local cache, and HF_HUB_OFFLINE forbids asking the Hub. Unset it, or "
            "give a local directory."
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{kind} {hub_id!r} has no config.json: it is not a transformers model."
    if isinstance(error, OSError) and error.errno in (28, 122):
        return f"the disk is full: {kind} {hub_id!r} does not fit. Free some space, or move the cache with HF_HOME."
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 429:
        return f"the Hub is limiting requests (HTTP 429) for {hub_id!r}. Log in with hf auth login, or try again later."
    if status is not None:
        return f"the Hub answered {status} for {kind} {hub_id!r}. Try again later."
    if type(error).__name__ in _BROKEN_CONNECTION:
        return f"the connection broke off while {kind} {hub_id!r} was fetched. Try again; what has arrived is kept."
    if not isinstance(error, OSError | TimeoutError) and not type(error).__module__.startswith(("httpx", "httpcore")):
        return f"{kind} {hub_id!r} could not be fetched ({type(error).__name__}: {' '.join(str(error).split())[:160]})."
    return (
        f"the Hub cannot be reached for {kind} {hub_id!r} ({type(error).__name__}). Check the network, or give a "
        "local directory."
    )
