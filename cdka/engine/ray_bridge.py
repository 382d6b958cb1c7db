"""The process between a dispatcher and a Ray cluster: JSON lines in, JSON lines out.

It holds the connection, so that whatever happens to that (Ray ends a process whose cluster is gone) leaves the
dispatcher and its other engines alone. It holds no state: its dispatcher starts another one, which attaches to the same
supervisor.

``python -m cdka.engine.ray_bridge ADDRESS`` serves a dispatcher; with ``check`` behind it, it prints one line about the
cluster and ends.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # tries, a second each, to be let in: a wrong token stays wrong
os.environ.setdefault("RAY_gcs_server_request_timeout_seconds", "10")  # a node here is looked for so long, not a minute
os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "20")

from cdka import __version__
from cdka.engine import archives
from cdka.engine.clusters import add_problems, clear_words, probe
from cdka.errors import CdkaError
from cdka.paths import home_dir
from cdka.plain_json import dump

POLL_S, ANSWER_S, BEGIN_S = 0.25, 20.0, 60.0
"""Seconds that the supervisor may hold a poll for news; after which a question without an answer is given up; and that
a supervisor may take to begin: the head starts a process for it."""
NODES_EVERY_S = 2.0
LARGE_BYTES = 500e6
_OUT: TextIO = sys.stdout


class Bridge:
    """One connection. ``serve`` returns when the dispatcher has closed its end, and raises when the cluster is gone."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.watched: dict[str, dict[str, Any]] = {}
        self.unanswered: set[str] = set()
        self._commands: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._told_nodes: list[dict[str, Any]] | None = None
        self._nodes_at = 0.0
        self._digests: dict[tuple[Any, ...], tuple[str, int]] = {}

    def connect(self) -> None:
        """Join the cluster and find its supervisor, or start one. Raises CdkaError in the words of the place."""
        probe(self.address)
        import ray

        if self.address.startswith("ray://"):
            _check_token(self.address)
        try:
            ray.init(
                address=self.address.removeprefix("ray:") if not self.address.startswith("ray://") else self.address,
                namespace="cdka",
                log_to_driver=False,
                **({} if self.address.startswith("ray://") else {"logging_level": "error"}),
            )
        except Exception as error:
            traceback.print_exc()
            raise CdkaError(clear_words(self.address, _told(error))) from None
        from cdka.engine.ray_supervisor import NAMESPACE, Supervisor

        self.ray = ray
        self.supervisor = (
            ray.remote(Supervisor)
            .options(
                name=f"supervisor-{__version__}",
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                resources={"node:__internal_head__": 0.001},
                max_concurrency=100_000,
                max_restarts=0,
            )
            .remote()
        )
        self.call("running", timeout_s=BEGIN_S)

    def call(self, method: str, *arguments: Any, timeout_s: float = ANSWER_S) -> Any:
        """The answer of the supervisor."""
        return self.ray.get(getattr(self.supervisor, method).remote(*arguments), timeout=timeout_s)

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive, with what they have."""
        found = []
        for node in self.ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                found.append(
                    {
                        "node": node["NodeID"],
                        "name": node["NodeManagerHostname"],
                        "address": node["NodeManagerAddress"],
                        "cpus": int(has.get("CPU", 0)),
                        "gpus": int(has.get("GPU", 0)),
                        "head": "node:__internal_head__" in has,
                    }
                )
        return sorted(found, key=lambda node: (not node["head"], node["name"], node["node"]))

    def versions(self, nodes: list[dict[str, Any]], limit_s: float = 20.0) -> None:
        """Add to each node its versions, or what is wrong there."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from cdka.engine.ray_task import versions

        asked = {
            versions.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["node"], soft=False)
            ).remote(): node
            for node in nodes
        }
        deadline = time.monotonic() + limit_s
        for reference, node in asked.items():
            try:
                node["versions"] = self.ray.get(reference, timeout=max(0.1, deadline - time.monotonic()))
            except Exception as error:
                text = " ".join(str(error).split())
                missing = "No module named 'cdka'" in text
                node["problem"] = "cdka-studio is not installed there" if missing else f"{type(error).__name__}"
        add_problems(nodes, __version__)

    # Serving a dispatcher -------------------------------------------------------------------------------------------

    def serve(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            self._tell_nodes()
            while not self._commands.empty():
                command = self._commands.get()
                if command is None:
                    return
                self._obey(command)
            watched = {job_id: known for job_id, known in self.watched.items() if job_id not in self.unanswered}
            if not watched:
                with suppress(queue.Empty):
                    self._commands.put(self._commands.get(timeout=POLL_S))
                continue
            for job_id, answer in self.call("poll", watched, POLL_S).items():
                self._bring_home(job_id, answer)

    def _read(self) -> None:
        for line in sys.stdin:
            self._commands.put(json.loads(line))
        self._commands.put(None)

    def _tell_nodes(self) -> None:
        now = time.monotonic()
        if now - self._nodes_at >= NODES_EVERY_S:
            self._nodes_at = now
            say({"nodes": self.nodes()})

    def _obey(self, command: Mapping[str, Any]) -> None:
        job_id = command["job_id"]
        match command["do"]:
            case "submit":
                try:
                    self._submit(command)
                except OSError as error:
                    detail = f"what it needs could not be read: {error.strerror} ({error.filename}). Retry the run."
                    say({"report": job_id, "outcome": ["unsent", detail]})
            case "watch":
                self.watched[job_id] = {key: command[key] for key in ("seqs", "placed", "files", "runs")}
                self.unanswered.discard(job_id)
            case "stop":
                self.call("stop", job_id, command["stops"])
            case "cancel":
                self.call("cancel", job_id)
            case "forget":
                self.watched.pop(job_id, None)
                self.unanswered.discard(job_id)
                self.call("forget", job_id)

    def _submit(self, command: Mapping[str, Any]) -> None:
        """Send what the job needs and is not there yet, then the job."""
        request = dict(command["request"])
        paths = [Path(path) for path in request.pop("paths")]
        checkpoints = {i: Path(path) for i, path in request.pop("checkpoints").items()}
        request["inputs"] = {str(path): self._send(path) for path in paths}
        request["checkpoints"] = {i: self._send(path) for i, path in checkpoints.items()}
        self.call("submit", request)
        self.watched[command["job_id"]] = {key: command[key] for key in ("seqs", "placed", "files", "runs")}

    def _send(self, path: Path) -> str:
        state = archives.state_of(path)
        digest, size = self._digests[state] = self._digests.get(state) or archives.digest_of(path)
        if self.call("missing", [digest]):
            if size > LARGE_BYTES:
                say({"note": f"sending {path.name} to the cluster once: {size / 1e9:.1f} GB"})
            archive = home_dir() / "engine" / f"sending-{digest}"
            try:
                archives.pack(path, archive)
                for offset, piece, last in archives.pieces(archive):
                    self.call("put", digest, offset, piece, last)
                    self._tell_nodes()
            finally:
                archive.unlink(missing_ok=True)
        return digest

    def _bring_home(self, job_id: str, answer: dict[str, Any] | None) -> None:
        """Hand an answer on, with the files that belong to it; the job is left alone until that has been stored."""
        known = self.watched[job_id]
        self.unanswered.add(job_id)
        if answer is None:
            say({"report": job_id, "outcome": ["gone", ""]})
            return
        arrived: dict[str, str] = {}
        for name, version in answer.get("files", {}).items():
            if known["files"].get(name) != version:
                target = self._fetch(job_id, name, version, known["runs"])
                if target is None:  # a newer one has taken its place meanwhile: ask again
                    self.unanswered.discard(job_id)
                    return
                arrived[name] = target
        say({"report": job_id, **answer, "arrived": arrived})

    def _fetch(self, job_id: str, name: str, version: int, runs: list[list[str]]) -> str | None:
        index, what = name.split("-", 1)
        directory = Path(runs[int(index)][1])
        directory.mkdir(parents=True, exist_ok=True)
        archive, offset = directory / f".arriving-{what}", 0
        try:
            while piece := self.call("fetch", job_id, name, version, offset):
                archives.write_piece(archive, offset, piece)
                offset += len(piece)
                self._tell_nodes()
            if piece is None:
                return None
            archives.unpack(archive, directory / f".arrived-{what}")
        finally:
            archive.unlink(missing_ok=True)
        return str(directory / f".arrived-{what}")


def _check_token(address: str) -> None:
    """Raises CdkaError for a wrong token: Ray's client tries for half a minute, and does not say what is wrong."""
    try:
        import grpc
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated.ray_client_pb2 import ClusterInfoRequest, ClusterInfoType
        from ray.core.generated.ray_client_pb2_grpc import RayletDriverStub
    except ImportError:  # another version of Ray, whose own answer has to do
        return
    channel = init_grpc_channel(address.removeprefix("ray://"))
    try:
        RayletDriverStub(channel).ClusterInfo(ClusterInfoRequest(type=ClusterInfoType.PING), timeout=ANSWER_S)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise CdkaError(clear_words(address, f"token: {error.details()}")) from None
    finally:
        channel.close()


def say(message: Mapping[str, Any]) -> None:
    """One line to the dispatcher."""
    _OUT.write(dump(message) + "\n")
    _OUT.flush()


def _told(error: BaseException) -> str:
    """An error with what caused it: Ray names a wrong token in the cause alone."""
    told = f"{type(error).__name__}: {error}"
    return told if error.__cause__ is None else f"{told} ({error.__cause__})"


def main(address: str, check: bool) -> int:
    """Serve a dispatcher, or print one line about the cluster."""
    bridge = Bridge(address)
    try:
        bridge.connect()
        if check:
            nodes = bridge.nodes()
            bridge.versions(nodes)
            say({"nodes": nodes, "jobs": bridge.call("running")})
            return 0
        say({"connected": True})
        bridge.serve()
    except CdkaError as error:
        say({"error": str(error)})
        return 1
    except Exception as error:
        traceback.print_exc()
        say({"error": clear_words(address, _told(error))})
        return 1
    return 0


if __name__ == "__main__":
    _OUT = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever Ray prints goes to the log
    code = main(sys.argv[1], "check" in sys.argv[2:])
    _OUT.flush()
    os._exit(code)
