"""The address of this server for other machines in the same network, and a QR code of it."""

from __future__ import annotations

import socket

import psutil
import segno
import streamlit as st

from app import server
from cdka.machine import is_address, is_loopback


def addresses() -> list[str]:
    """``http://192.168.1.20:8501`` for every address at which other machines may reach this server; none where it
    listens on the loopback address alone."""
    host, port = st.get_option("server.address") or "", st.get_option("server.port")
    if host not in server.ANY_ADDRESS:
        return [] if _is_local(host) else [f"http://{host}:{port}"]
    found = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and not _is_local(entry.address)
    ]
    return [f"http://{address}:{port}" for address in found]


def _is_local(host: str) -> bool:
    return is_loopback(host) or (is_address(host) and host.startswith(("169.254.", "fe80:")))


def invitation(url: str) -> str:
    """The link that lets somebody else in: ``url`` with the token of this server, where it asks for one."""
    token = server.link_token()
    return f"{url}&token={token}" if token and "?" in url else f"{url}?token={token}" if token else url


def qr_svg(url: str) -> str:
    """The QR code of an address as an SVG element, dark on white whatever the theme."""
    return segno.make(url, error="m").svg_inline(
        scale=4, border=3, dark="#000", light="#fff", title=f"QR code of {url}"
    )
