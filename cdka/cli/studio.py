"""``cdka studio``."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import socket
import sys
from importlib.util import find_spec

from cdka.errors import CdkaError
from cdka.paths import home_dir, studio_dir
from cdka.terminal import print_message

HELP = "Open the Studio, the web app, in the browser."
EXAMPLE = "cdka studio --port 8502 --no-browser"
NEEDS = ("streamlit", "plotly", "altair", "pandas")
"""Packages that only the Studio needs: a machine that just trains may be without them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (default 8501)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")


def is_loopback(host: str) -> bool:
    """True if only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_free(host: str, port: int) -> None:
    """Raises CdkaError unless a server can listen there now."""
    if not 1 <= port <= 65535:
        raise CdkaError(f"port must be from 1 to 65535: got {port}. Example: --port 8502")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise CdkaError(f"host must be an address of this machine: got {host!r}. Example: --host 127.0.0.1") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CdkaError(
                f"port {port} must be free: something listens there already, perhaps a Studio: http://{host}:{port}. "
                f"Use --port {port + 1 if port < 65535 else 8501}."
            ) from None
        raise CdkaError(f"the Studio cannot listen on {host}:{port} ({error.strerror}). Try --port 8502.") from None


def run(args: argparse.Namespace) -> None:
    home_dir()
    check_free(args.host, args.port)
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise CdkaError(
            f"the Studio needs packages that are not installed here: {', '.join(missing)}. "
            f"Run: pip install {' '.join(missing)}"
        )
    sys.path.insert(0, str(studio_dir()))
    from app.server import launch

    if not is_loopback(args.host):
        print_message(
            f"warning: anyone who can reach {args.host}:{args.port} can start and remove runs on this machine: there "
            "is no password. Leave --host out to keep the Studio to yourself."
        )
    launch(args.host, args.port, browser=not args.no_browser)
