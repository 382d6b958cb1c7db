"""A local HTTP server that plays the Hub: repositories that are there, missing, gated, silent, broken, huge."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PETABYTE = 10**15


class FakeHub(ThreadingHTTPServer):
    """``repositories`` maps "owner/name" to (behaviour, {file name: content}).

    Behaviours: ``fine``; ``missing``, ``gated``, ``busy`` (429), ``down`` (503) answer so to every question; ``silent``
    never answers; ``huge`` claims a petabyte of weights; ``stalls`` and ``breaks`` send half of the weights and then
    nothing more, or hang up. ``asked`` lists the paths in order, ``tokens`` the credentials that came with them.
    """

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, tuple[str, Mapping[str, bytes]]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories = repositories
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that has given up is no news."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        self.server.tokens.append(self.headers.get("Authorization"))
        parts = path.strip("/").split("/")
        of_api = parts[0] == "api"
        kind, parts = (parts[1], parts[2:]) if of_api else ("models", parts)
        if not of_api and parts[0] == "datasets":
            kind, parts = "datasets", parts[1:]
        name, rest = "/".join(parts[:2]), parts[2:]
        behaviour, files = self.server.repositories.get(name, ("missing", {}))
        if behaviour == "silent":
            self.server.closing.wait(60)
            return
        refusals = {"missing": (404, "RepoNotFound"), "gated": (403, "GatedRepo"), "busy": (429, ""), "down": (503, "")}
        if behaviour in refusals:
            status, code = refusals[behaviour]
            return self._send(status, b'{"error": "no"}', {"X-Error-Code": code} if code else {}, with_body)
        if of_api and rest[:1] == ["tree"]:
            return self._send(200, json.dumps(self._tree(behaviour, files)).encode(), {}, with_body)
        if of_api:
            return self._send(200, json.dumps(self._facts(name, kind, behaviour, files)).encode(), {}, with_body)
        self._file("/".join(rest[2:]), behaviour, files, with_body)

    def _tree(self, behaviour: str, files: Mapping[str, bytes]) -> list[dict]:
        return [
            {"type": "file", "path": file, "size": _size(behaviour, file, content), "oid": _digest(content)}
            for file, content in files.items()
        ]

    def _facts(self, name: str, kind: str, behaviour: str, files: Mapping[str, bytes]) -> dict:
        siblings = [{"rfilename": file, "size": _size(behaviour, file, content)} for file, content in files.items()]
        return {
            "_id": "1",
            "id": name,
            "modelId": name,
            "sha": COMMIT,
            "siblings": siblings,
            "private": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "gated": False,
            "kind": kind,
        }

    def _file(self, file: str, behaviour: str, files: Mapping[str, bytes], with_body: bool) -> None:
        if file not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
        content = files[file]
        facts = {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT}
        half = with_body and behaviour in ("stalls", "breaks") and file.endswith(".safetensors")
        if not half:
            return self._send(200, content, facts, with_body)
        self._head(200, len(content), facts)
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        if behaviour == "stalls":
            self.server.closing.wait(60)
        self.close_connection = True

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], with_body: bool) -> None:
        self._head(status, len(body), headers)
        if with_body:
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _size(behaviour: str, file: str, content: bytes) -> int:
    return PETABYTE if behaviour == "huge" and file.endswith(".safetensors") else len(content)


@contextmanager
def playing(repositories: Mapping[str, tuple[str, Mapping[str, bytes]]]) -> Iterator[FakeHub]:
    """A running fake Hub; it is gone afterwards."""
    hub = FakeHub(repositories)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        hub.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder as the content of a repository."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
