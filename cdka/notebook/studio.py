"""The Studio beside the code: ``cdka.open_studio()`` starts it, gives its link, and shows it in the cell."""

from __future__ import annotations

import atexit
import html
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from typing import Any

from cdka.childproc import python_environment
from cdka.errors import CdkaError
from cdka.notebook.display import Result, page

ROOMS = ("learn", "design", "align", "finetune", "sweeps", "compare")
START_LIMIT_S = 120.0
FIRST_PORT, PORTS = 8501, 50


class OpenStudio(Result):
    """A Studio that serves: its ``url``, drawn as a link with the page below it; ``close()`` ends it."""

    def __init__(self, url: str, port: int, height: int, process: subprocess.Popen[bytes] | None) -> None:
        self.url, self.port, self._height, self._process = url, port, height, process

    def close(self) -> None:
        """End the Studio, if this call started it. Runs at work go on."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=30)

    def lines(self) -> list[str]:
        """The link."""
        return [f"CDKA Studio: {self.url}"]

    def html(self) -> str:
        """The link, and the page in a frame."""
        address = html.escape(self.url, quote=True)
        frame = f'<iframe src="{address}" width="100%" height="{self._height}" style="border:0" title="CDKA Studio">'
        return f'<p>CDKA Studio: <a href="{address}" target="_blank">{address}</a></p>{frame}</iframe>'

    def _repr_html_(self) -> str:
        return page(self.html())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"url": self.url, "port": self.port}


def open_studio(
    room: str | None = None, *, port: int | None = None, base_url: str | None = None, height: int = 720
) -> OpenStudio:
    """The Studio, started for as long as this program runs, on the runs of this home: a link, and a frame in Jupyter.

    ``room`` is ``learn``, ``design``, ``align``, ``finetune``, ``sweeps`` or ``compare``. ``base_url`` is the path under
    which a proxy serves it; behind JupyterHub with jupyter-server-proxy it is found by itself. Raises CdkaError in
    Colab, whose cells cannot show a local server that needs WebSockets, and where the Studio does not start.

    >>> cdka.open_studio("compare")  # doctest: +SKIP
    """
    if room is not None and room not in ROOMS:
        raise CdkaError(f"a room is one of {', '.join(ROOMS)}: got {room!r}.")
    if "google.colab" in sys.modules:
        raise CdkaError(
            "the Studio needs a WebSocket to its server, which Colab's cells do not pass on. Draw results in place "
            "instead: run.curve(), cdka.compare_runs(sweep).plot()."
        )
    chosen = _free_port() if port is None else port
    prefix = _proxy_prefix(chosen) if base_url is None else base_url.strip("/")
    process = _start(chosen, prefix)
    path = "/".join(part for part in (prefix, room or "") if part)
    behind_hub = base_url is None and prefix
    url = f"/{path}" if behind_hub else f"http://127.0.0.1:{chosen}/{path}"
    return OpenStudio(url, chosen, height, process)


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise CdkaError(f"a port must be free: {FIRST_PORT} to {FIRST_PORT + PORTS - 1} are taken. Use port=9000.")


def _proxy_prefix(port: int) -> str:
    """The path under which jupyter-server-proxy passes a port on, whole; empty where the notebook is not behind it."""
    hub = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    if not hub or find_spec("jupyter_server_proxy") is None:
        return ""
    return f"{hub.strip('/')}/proxy/absolute/{port}"


def _start(port: int, base_url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cdka", "studio", "--no-browser", "--port", str(port)]
    process = subprocess.Popen(
        [*command, *(["--base-url", base_url] if base_url else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=python_environment(),
    )
    atexit.register(process.terminate)
    health = f"http://127.0.0.1:{port}/{base_url + '/' if base_url else ''}_stcore/health"
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            told = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
            cause = told.splitlines()[-1].removeprefix("cdka: ") if told else f"exit code {process.returncode}"
            raise CdkaError(f"the Studio did not start: {cause}")
        try:
            with urllib.request.urlopen(health, timeout=2):
                return process
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    process.terminate()
    raise CdkaError(f"the Studio did not answer on port {port} within {START_LIMIT_S:.0f} s. Try: cdka studio")
