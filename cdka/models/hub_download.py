"""Fetch from the Hub into the usual cache: ``python -m cdka.models.hub_download model|dataset HUB_ID [PATTERN ...]``.

A process of its own, so that its caller can give up on it or be cancelled whatever the network does. Prints JSON
lines: ``{"done_bytes", "total_bytes"}`` while it works, then ``{"path"}`` or ``{"error": "one line"}``. Token, cache
and endpoint follow huggingface_hub's own conventions (HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any

ASK_LIMIT_S = 5.0
"""How long the Hub may take to tell what a repository holds."""
REPORT_EVERY_S = 0.5
SPARE_BYTES = 200_000_000
"""What a download must leave free on the disk."""
Report = Callable[[dict[str, Any]], None]
_TEXT_ENDINGS = (".json", ".txt", ".model", ".jinja")
_BROKEN_OFF = ("RemoteProtocolError", "ReadError", "IncompleteRead", "ConnectionResetError")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")


def needed_files(names: Iterable[str]) -> list[str]:
    """The files of a repository that loading takes: configuration, tokenizer, and weights in safetensors."""
    return [name for name in names if "/" not in name and (name.endswith(_TEXT_ENDINGS) or _WEIGHTS.fullmatch(name))]


def cached_folder(hub_id: str) -> Path | None:
    """The folder of the local cache that holds the whole model; None where something of it is missing."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(hub_id, "config.json")
    except HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    else:
        wanted = {"model.safetensors"}
    return folder if all((folder / name).is_file() for name in wanted) else None


def explain(error: BaseException, what: str, hub_id: str) -> str:
    """In one line, why ``what`` ("model" or "data set") ``hub_id`` cannot be had, and the next step."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{what} {hub_id!r} is gated: accept its terms on its Hub page, then log in with: hf auth login "
            "(or set HF_TOKEN)."
        )
    if isinstance(error, errors.HFValidationError):
        return f"a Hub id is written owner/name: got {hub_id!r}."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{what} {hub_id!r} is not on the Hub, or is private. Check the spelling, or log in with: hf auth login."
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError) and _offline():
        return (
            f"{what} {hub_id!r} is not in the local cache, and HF_HUB_OFFLINE forbids asking the Hub. Unset it, or "
            "give a local directory."
        )
    if isinstance(error, OSError) and error.errno in (28, 122):
        return f"the disk is full: {what} {hub_id!r} does not fit. Free some space, or move the cache with HF_HOME."
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 429:
        return f"the Hub asks for patience (429) for {hub_id!r}. Log in with hf auth login, or try again later."
    if status is not None:
        return f"the Hub answered {status} for {what} {hub_id!r}. Try again later."
    if type(error).__name__ in _BROKEN_OFF:
        return f"the connection broke off while {what} {hub_id!r} was fetched. Try again; what has arrived is kept."
    if not isinstance(error, OSError | TimeoutError) and not type(error).__module__.startswith(("httpx", "httpcore")):
        return f"{what} {hub_id!r} could not be fetched ({type(error).__name__}: {' '.join(str(error).split())[:160]})."
    return (
        f"the Hub cannot be reached for {what} {hub_id!r} ({type(error).__name__}). Check the network, or give a "
        "local directory."
    )


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def room_for(needed_bytes: int, folder: Path) -> str | None:
    """Why a download of this size must not start; None where the disk has room."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes + SPARE_BYTES <= free:
        return None
    return (
        f"the disk has no room: {needed_bytes / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free in "
        f"{existing}. Free some space, or move the cache with HF_HOME."
    )


def _held_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("blobs/*") if file.is_file())


def fetch_model(hub_id: str, report: Report) -> dict[str, str]:
    """Download what is missing of a model; ``report`` gets the progress. Returns ``{"path"}`` or ``{"error"}``."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        held = cached_folder(hub_id)
        if held is not None:
            return {"path": str(held)}
        if _offline():
            snapshot_download(hub_id, local_files_only=True)
            return {"error": f"model {hub_id!r} is only partly in the local cache, and HF_HUB_OFFLINE is set."}
        info = HfApi().model_info(hub_id, files_metadata=True, timeout=ASK_LIMIT_S)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        files = needed_files(sizes)
        if "config.json" not in files:
            return {"error": f"model {hub_id!r} has no config.json: it is not a transformers model."}
        if not any(_WEIGHTS.fullmatch(name) for name in files):
            return {
                "error": f"model {hub_id!r} offers no weights in safetensors, and other formats can run code: "
                "not loaded. Convert it, or choose another model."
            }
        return _download(hub_id, "model", {name: sizes[name] for name in files}, report)
    except Exception as error:
        return {"error": explain(error, "model", hub_id)}


def fetch_dataset(hub_id: str, patterns: Sequence[str], report: Report) -> dict[str, str]:
    """The same for the files of a data set that match one of ``patterns`` (all data files where none is given)."""
    from huggingface_hub import HfApi

    try:
        if _offline():
            return {"path": _local_dataset(hub_id, patterns)}
        info = HfApi().dataset_info(hub_id, files_metadata=True, timeout=ASK_LIMIT_S)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        wanted = {
            name: size
            for name, size in sizes.items()
            if name == "README.md"
            or any(fnmatch(name, pattern) for pattern in patterns)
            or (not patterns and not name.endswith((".py", ".gitattributes")))
        }
        if not set(wanted) - {"README.md"}:
            return {"error": f"data set {hub_id!r} has no files like {', '.join(patterns)}: its layout has changed."}
        return _download(hub_id, "dataset", wanted, report)
    except Exception as error:
        folder = _cached_dataset(hub_id, patterns)
        return {"error": explain(error, "data set", hub_id)} if folder is None else {"path": folder}


def _local_dataset(hub_id: str, patterns: Sequence[str]) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(hub_id, repo_type="dataset", local_files_only=True, allow_patterns=list(patterns) or None)


def _cached_dataset(hub_id: str, patterns: Sequence[str]) -> str | None:
    """The local copy of a data set whose Hub does not answer, if it holds something for every pattern."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(_local_dataset(hub_id, patterns))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError):
        return None
    return str(folder) if patterns and all(any(folder.glob(pattern)) for pattern in patterns) else None


def _download(hub_id: str, repo_type: str, sizes: Mapping[str, int], report: Report) -> dict[str, str]:
    """Fetch the main revision: only then does the cache note where it lies, so that it is found without the Hub."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=hub_id, repo_type=repo_type)
    total = sum(sizes.values())
    problem = room_for(max(0, total - _held_bytes(folder)), folder)
    if problem:
        return {"error": problem}
    done: dict[str, Any] = {}

    def work() -> None:
        try:
            done["path"] = snapshot_download(
                hub_id, repo_type=repo_type, allow_patterns=[escape(name) for name in sizes]
            )
        except BaseException as error:
            done["problem"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        report({"done_bytes": min(total, _held_bytes(folder)), "total_bytes": total})
        thread.join(REPORT_EVERY_S)
    if "problem" in done:
        raise done["problem"]
    return {"path": done["path"]}


def main(argv: list[str]) -> None:
    """Fetch what the arguments name and leave at once, whatever threads still wait."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    what, hub_id, *patterns = argv
    tell(fetch_model(hub_id, tell) if what == "model" else fetch_dataset(hub_id, patterns, tell))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
