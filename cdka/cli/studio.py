"""``cdka studio``."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
from importlib.util import find_spec

from cdka.engine import local
from cdka.engine.clusters import check_cluster
from cdka.errors import CdkaError
from cdka.machine import is_loopback
from cdka.paths import home_dir, studio_dir
from cdka.runs.spec import AUTO, ENGINE_VARIABLE, LOCAL, check_engine
from cdka.runs.store import Store
from cdka.terminal import print_message

HELP = "Open the Studio, the web app, in the browser."
EXAMPLE = "cdka studio --port 8502 --no-browser"
NEEDS = ("streamlit", "plotly", "altair", "pandas")
"""Packages that only the Studio needs: a machine that just trains may be without them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (default 8501)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--base-url", default="", metavar="URL", help="path or address under which a proxy (Jupyter's, say) serves it"
    )
    parser.add_argument(
        "--engine",
        metavar="local|ray:ADDRESS",
        help="where its runs train: local, or a Ray cluster (default CDKA_ENGINE)",
    )
    parser.add_argument("--no-token", action="store_true", help="let in whoever reaches the port, without the link")


def check_free(host: str, port: int) -> None:
    """Raises CdkaError unless a server can listen there now."""
    if not 1 <= port <= 65535:
        raise CdkaError(f"port must be from 1 to 65535: got {port}. Example: --port 8502")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (socket.gaierror, UnicodeError):
        raise CdkaError(f"host must be an address of this machine: got {host!r}. Example: --host 127.0.0.1") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CdkaError(
                f"port {port} must be free: something listens there already, perhaps a Studio: http://{host}:{port}. "
                f"Use --port {port + 1 if port < 65535 else 8501}."
            ) from None
        raise CdkaError(f"the Studio cannot listen on {host}:{port} ({error.strerror}). Try --port 8502.") from None


def run(args: argparse.Namespace) -> None:
    home = home_dir()
    check_free(args.host, args.port)
    if args.engine not in (None, AUTO):
        check_engine(args.engine)
        if args.engine != LOCAL:
            check_cluster(home, args.engine)
        os.environ[ENGINE_VARIABLE] = args.engine
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise CdkaError(
            f"the Studio needs packages that are not installed here: {', '.join(missing)}. "
            f"Run: pip install {' '.join(missing)}"
        )
    sys.path.insert(0, str(studio_dir()))
    from app import server

    token = "" if args.no_token else server.token_of(home)
    if not is_loopback(args.host):
        print_message(
            f"warning: others can reach {args.host}:{args.port}: "
            + ("there is no password, so they" if args.no_token else "whoever has the link below")
            + " can start and remove runs on this machine, and what is sent is not encrypted. Leave --host out to keep "
            "the Studio to yourself."
        )
    elif args.no_token:
        print_message("warning: every user of this machine can open this Studio: --no-token gives up its password.")
    print_message(f"CDKA Studio: {server.link(args.host, args.port, token, args.base_url)}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # so that what follows is done in every case
    try:
        server.launch(args.host, args.port, browser=not args.no_browser, token=token, home=home, base_url=args.base_url)
    finally:
        if local.end_if_idle(Store(home)):
            print_message("The engine was ended, too: nothing is queued or at work.")
