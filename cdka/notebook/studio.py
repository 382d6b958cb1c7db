"""The Studio beside the code: ``cdka.open_studio()`` starts it, gives its link, and shows it in the cell."""

from __future__ import annotations

import atexit
import html
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from cdka.childproc import python_environment
from cdka.errors import CdkaError
from cdka.notebook.display import Result, page

ROOMS = ("learn", "design", "align", "finetune", "sweeps", "compare")
START_LIMIT_S = 120.0
FIRST_PORT, PORTS = 8501, 50


class OpenStudio(Result):
    """A Studio that serves: its ``url``, drawn as a link, behind a proxy with the page below; ``close()`` ends it."""

    def __init__(self, url: str, port: int, height: int, process: subprocess.Popen[str] | None) -> None:
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
        link = f'<p><a href="{address}" target="_blank">Open CDKA Studio</a> ({html.escape(self._bare)})</p>'
        if not self._height:  # the Studio lets itself be framed by pages of its own address alone
            return link
        return f'{link}<iframe src="{address}" width="100%" height="{self._height}" style="border:0"></iframe>'

    @property
    def _bare(self) -> str:
        """The address without its token."""
        return self.url.partition("?")[0]

    def _repr_html_(self) -> str:
        return page(self.html())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"url": self.url, "port": self.port}


def open_studio(
    room: str | None = None, *, port: int | None = None, base_url: str | None = None, height: int = 720
) -> OpenStudio:
    """The Studio, started for as long as this program runs, on the runs of this home: a link; behind a proxy a frame.

    ``room`` is ``learn``, ``design``, ``align``, ``finetune``, ``sweeps`` or ``compare``. ``base_url`` is the address
    under which a proxy passes the port on, path included, such as
    ``"https://hub.example.org/user/ann/proxy/absolute/8501"`` of jupyter-server-proxy; JupyterHub 5 tells it by itself.
    Raises CdkaError in Colab, whose cells pass no WebSocket on, and where the Studio does not start.

    >>> studio = cdka.open_studio("compare")
    >>> studio.lines()
    ['CDKA Studio: http://127.0.0.1:.../compare?token=...']
    >>> studio.close()
    """
    if room is not None and room not in ROOMS:
        raise CdkaError(f"a room is one of {', '.join(ROOMS)}: got {room!r}.")
    if "google.colab" in sys.modules:
        raise CdkaError(
            "the Studio needs a WebSocket to its server, which Colab's cells do not pass on. Draw results in place "
            "instead: run.curve(), cdka.compare_runs(sweep).plot()."
        )
    chosen = _free_port() if port is None else port
    address = _proxy_address(chosen) if base_url is None else base_url
    process, link = _start(chosen, address)
    page_url = link.replace("/?", f"/{room}?") if room and "?" in link else link + (room or "")
    return OpenStudio(page_url, chosen, height if urlsplit(address).netloc else 0, process)


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


def _proxy_address(port: int) -> str:
    """The address under which jupyter-server-proxy passes a port on, whole; empty where the notebook is not behind it.

    JupyterHub 5 tells it in the environment.
    """
    public = os.environ.get("JUPYTERHUB_PUBLIC_URL")
    if not public or find_spec("jupyter_server_proxy") is None:
        return ""
    return f"{public.rstrip('/')}/proxy/absolute/{port}"


def _start(port: int, base_url: str) -> tuple[subprocess.Popen[str], str]:
    """(the process of the server, the link that it printed), once it answers."""
    command = [sys.executable, "-m", "cdka", "studio", "--no-browser", "--port", str(port)]
    process = subprocess.Popen(
        [*command, *(["--base-url", base_url] if base_url else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=python_environment(),
    )
    atexit.register(process.terminate)
    printed: list[str] = []
    threading.Thread(target=lambda: printed.extend(process.stderr or ()), daemon=True).start()
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        link = next((line.split(": ", 1)[1].strip() for line in printed if line.startswith("CDKA Studio: ")), None)
        if process.poll() is not None:
            cause = printed[-1].strip().removeprefix("cdka: ") if printed else f"exit code {process.returncode}"
            raise CdkaError(f"the Studio did not start: {cause}")
        if link is not None and _answers(port, urlsplit(base_url).path.strip("/")):
            return process, link
        time.sleep(0.2)
    process.terminate()
    raise CdkaError(f"the Studio did not answer on port {port} within {START_LIMIT_S:.0f} s. Try: cdka studio")


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True  # its door is shut without the token: it is there
    except (urllib.error.URLError, OSError):
        return False
