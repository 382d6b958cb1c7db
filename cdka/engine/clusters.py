"""The Ray cluster of an address, as the command line, plans and the Studio see it: its nodes, and what is wrong.

Nothing here imports Ray: a process of its own joins the cluster and answers (``ray_bridge.py``).
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cdka.childproc import python_environment
from cdka.engine.process import engine_dir
from cdka.errors import CdkaError
from cdka.paths import write_atomically

BRIDGE = (sys.executable, "-m", "cdka.engine.ray_bridge")
PROBE_S, CHECK_S = 2.0, 90.0
FRESH_S = 60.0
"""Seconds for which a cluster that was heard of is taken to be there."""
_INSTALL = "pip install 'cdka-studio[ray]'"


def clear_words(address: str, text: str) -> str:
    """A message of Ray's in one line, with the next step."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
    low = text.lower()
    if "token" in low or "authentic" in low:
        return (
            f"the cluster at {address} asks for its token: got none that it accepts. Set RAY_AUTH_TOKEN, or "
            "RAY_AUTH_TOKEN_PATH, to the token of its head (ray get-auth-token)."
        )
    if "version mismatch" in low or ("version" in low and "mismatch" in low):
        found = "; ".join(re.findall(r"(?:Ray|Python): [\w.]+", text))
        return (
            f"the versions of Ray and Python must be the cluster's: {found or text[:200]}. Install those of {address}."
        )
    if "no node info" in low or "raylet address" in low or "not find any running ray instance" in low:
        return (
            f"ray:ADDRESS is for a machine that is a node of the cluster: got {address}. Join it (ray start "
            "--address=...), or use ray://HOST:10001 from outside."
        )
    return f"the cluster at {address} could not be joined: {text[:300]}"


def add_problems(nodes: Sequence[dict[str, Any]], own: str) -> None:
    """Add a ``problem`` to each node whose version of cdka-studio is not ``own``, or whose torch is not the others'."""
    torches = {node["versions"].get("torch", "none") for node in nodes if "versions" in node and node["cpus"]}
    for node in nodes:
        found = node.get("versions")
        if found and found["cdka"] != own:
            node["problem"] = f"has cdka-studio {found['cdka']}, and this machine {own}"
        elif found and node["cpus"] and len(torches) > 1:
            node["problem"] = f"has torch {found.get('torch', 'none')}; the nodes differ: {', '.join(sorted(torches))}"


def host_and_port(address: str) -> tuple[str, int]:
    """The host and port of ``ray:HOST:PORT`` or ``ray://HOST:PORT``."""
    host, _, port = address.removeprefix("ray:").removeprefix("//").rpartition(":")
    return host.strip("[]"), int(port)


def probe(address: str) -> None:
    """Raises CdkaError unless Ray is installed and something listens at the address: Ray itself waits for minutes."""
    if find_spec("ray") is None:
        raise CdkaError(f"a cluster needs Ray, which is not installed here: got {address}. Run: {_INSTALL}")
    try:
        socket.create_connection(host_and_port(address), timeout=PROBE_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CdkaError(
            f"a cluster must answer: nothing does at {address} ({reason}). Check the address, and that its head runs: "
            "ray status"
        ) from None


def state_path(home: Path, address: str) -> Path:
    """The file with what was last heard of a cluster."""
    return engine_dir(home) / f"cluster-{hashlib.sha256(address.encode()).hexdigest()[:12]}.json"


def write_state(home: Path, address: str, found: Mapping[str, Any]) -> None:
    """Keep what was heard of a cluster just now."""
    write_atomically(state_path(home, address), json.dumps({**found, "address": address, "at": time.time()}))


def known_state(home: Path, address: str) -> dict[str, Any] | None:
    """The last news of a cluster: ``nodes``, ``error`` (empty: none), ``at`` (Unix seconds); None for nothing."""
    try:
        return json.loads(state_path(home, address).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def clusters(home: Path) -> list[str]:
    """The addresses of the clusters that this home has used, the last one first."""
    found = []
    for path in (home / "engine").glob("cluster-*.json"):
        with suppress(OSError, ValueError, KeyError):
            state = json.loads(path.read_text(encoding="utf-8"))
            found.append((state["at"], state["address"]))
    return [address for _, address in sorted(found, reverse=True)]


def check_cluster(home: Path, address: str) -> None:
    """Raises CdkaError unless the cluster can be joined; quick where that was seen within the last minute."""
    probe(address)
    state = known_state(home, address)
    if state is None or state["error"] or time.time() - state["at"] > FRESH_S:
        look(home, address)


def look(home: Path, address: str) -> dict[str, Any]:
    """The nodes of a cluster with their versions, and the jobs there. Raises CdkaError where it cannot be joined."""
    probe(address)
    engine_dir(home)
    try:
        done = subprocess.run(
            [*BRIDGE, address, "check"], capture_output=True, timeout=CHECK_S, env=python_environment(), cwd=home
        )
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        found = json.loads(lines[-1])
    except subprocess.TimeoutExpired:
        raise CdkaError(
            f"the cluster at {address} did not answer within {CHECK_S:.0f} s. See there: ray status"
        ) from None
    except (IndexError, ValueError):
        tail = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise CdkaError(clear_words(address, tail[0] if tail else "it ended without an answer")) from None
    if "error" in found:
        raise CdkaError(found["error"])
    write_state(home, address, {"nodes": found["nodes"], "error": ""})
    return found
