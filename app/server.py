"""Start the Studio's server from Python, what ``cdka studio`` calls, and its door: who may come in.

The door stands before everything that Streamlit serves, pages and WebSocket alike. It answers requests to names of this
server alone (a foreign name that resolves to it is DNS rebinding), from its own pages alone, in no foreign frame, and
to those who carry the token of the printed link, in a cookie after the first time.
"""

from __future__ import annotations

import contextlib
import hmac
import html
import importlib
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import AsyncIterator, Callable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cdka.errors import CdkaError
from cdka.machine import is_address, is_loopback
from cdka.paths import write_privately

ENTRY = Path(__file__).resolve().parent / "main.py"
TOKEN_FILE = "studio-token"
SHOWN_ONCE_DRAWN = ENTRY.with_name("shown_once_drawn.html")
"""The style and script at the head of every page that show a room in one piece, once its parts stand."""
ANY_ADDRESS = ("", "0.0.0.0", "::")
_START_PAGE_S = 3.0
"""Time in which the start page is drawn by itself: an import would slow it."""
_ROOMS_STAND_ON = ("plotly.graph_objects", "altair", "scipy.stats", "cdka.solver", "cdka.claims", "cdka.compare")
OPEN_TO_ALL = ("/_stcore/health",)
"""Paths that answer without a token: a server reports whether it is up, and nothing else."""
_COOKIE_AGE_S = 30 * 24 * 3600
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob: ws: wss:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""The browser fetches nothing from elsewhere for a page of ours, whatever a foreign text talks it into."""
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)
_link_token = ""


def link_token() -> str:
    """The token that a link to this server must carry; empty where none is needed."""
    return _link_token


def token_of(home: Path) -> str:
    """The token of a home: made once and kept in a private file, so that cookies outlive a restart of the server."""
    path = home / TOKEN_FILE
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if len(kept := path.read_text(encoding="ascii").strip()) >= 32:
            return kept
    token = secrets.token_hex(24)
    try:
        write_privately(path, token)
    except OSError as error:
        raise CdkaError(
            f"the Studio keeps the token of its link in the home: {path} ({error.strerror}). Free some space, set "
            "CDKA_HOME elsewhere, or give the token up with --no-token."
        ) from None
    return token


def _name(netloc: str) -> str | None:
    """The host in ``host:port``, lower case and without brackets; None where it is not well formed."""
    try:
        parts = urlsplit(f"//{netloc}")
        return None if parts.username is not None or parts.path else (parts.hostname or "").rstrip(".")
    except ValueError:
        return None


class Door:
    """ASGI middleware that lets in what may come in; see the module."""

    def __init__(self, app: Callable[..., Any], *, host: str, port: int, token: str, proxy: str = "") -> None:
        self._app, self._host, self._token = app, host.strip("[]").lower(), token
        self._cookie = f"cdka-studio-{port}"
        self._own = {socket.gethostname().lower(), socket.getfqdn().lower()} if host in ANY_ADDRESS else {self._host}
        self._own |= {proxy.lower()} if proxy else set()

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
        refusal = self._refusal(scope, headers)
        if refusal:
            await _answer(scope, send, 403, refusal)
        elif not self._has_token(scope, headers, query):
            await _answer(scope, send, 403, _ASK, with_form=True)
        elif scope["type"] == "http" and scope["method"] == "GET" and "token" in query and self._token:
            await self._exchange(scope, send)
        elif _asks_for_a_room(scope, headers):
            await self._app(_asked_whole(scope), receive, _with_headers(_with_head(send)))
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: dict[str, Any], headers: dict[str, str]) -> str:
        """The reason to refuse a request whoever sends it; empty where there is none."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_own(_name(host)):
            return f"This server does not answer to the name {html.escape(host[:100])!r}. Start it with --host NAME."
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "The Studio takes requests from its own pages alone."
        framed = headers.get("sec-fetch-dest") in ("iframe", "frame", "embed", "object")
        if framed and headers.get("sec-fetch-site") not in ("same-origin", None):
            return "The Studio cannot be shown inside another page."
        return ""

    def _is_own(self, name: str | None) -> bool:
        if not name:
            return False
        if is_loopback(name) or name in self._own:
            return True
        return self._host in ANY_ADDRESS and is_address(name)

    def _has_token(self, scope: dict[str, Any], headers: dict[str, str], query: dict[str, str]) -> bool:
        if not self._token or scope["path"] in OPEN_TO_ALL:
            return True
        given = [query.get("token", ""), headers.get("authorization", "").removeprefix("Bearer ")]
        with contextlib.suppress(CookieError):
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
            given.append(cookie.value if cookie else "")
        return any(hmac.compare_digest(text.encode(), self._token.encode()) for text in given)

    async def _exchange(self, scope: dict[str, Any], send: Callable[..., Any]) -> None:
        """Set the cookie, and lead to the same page without the token in its address."""
        rest = [(k, v) for k, v in parse_qsl(scope["query_string"].decode("latin-1"), True) if k != "token"]
        place = "/" + scope["path"].lstrip("/") + (f"?{urlencode(rest)}" if rest else "")
        cookie = f"{self._cookie}={self._token}; Max-Age={_COOKIE_AGE_S}; Path=/; HttpOnly; SameSite=Lax"
        headers = [(b"location", place.encode("ascii", "ignore")), (b"set-cookie", cookie.encode())]
        await send({"type": "http.response.start", "status": 303, "headers": [*headers, *_HEADERS]})
        await send({"type": "http.response.body", "body": b""})


def _with_headers(send: Callable[..., Any]) -> Callable[..., Any]:
    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sending


def _asks_for_a_room(scope: dict[str, Any], headers: dict[str, str]) -> bool:
    """True for a page of the Studio itself: no file, and no figure that is saved as HTML."""
    page = scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get("accept", "")
    return page and "." not in scope["path"].rpartition("/")[2]


def _asked_whole(scope: dict[str, Any]) -> dict[str, Any]:
    """A request for a document that is to be answered whole and as plain text: we add to it."""
    dropped = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name.lower() not in dropped]}


def _with_head(send: Callable[..., Any]) -> Callable[..., Any]:
    """``send`` that puts ``SHOWN_ONCE_DRAWN`` into the head of an HTML document."""
    start: dict[str, Any] = {}
    parts: list[bytes] = []

    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message.get("headers", ())}
            if headers.get(b"content-type", b"").startswith(b"text/html"):
                start.update(message)
                return
        elif start and message["type"] == "http.response.body":
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = b"".join(parts).replace(b"</head>", SHOWN_ONCE_DRAWN.read_bytes() + b"</head>", 1)
            stale = (b"content-length", b"etag", b"last-modified")
            kept = [(name, value) for name, value in start["headers"] if name.lower() not in stale]
            await send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
            message = {"type": "http.response.body", "body": body}
        await send(message)

    return sending


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>CDKA Studio</title>
<body style="font: 16px system-ui, sans-serif; max-width: 34em; margin: 4em auto; padding: 0 1em">
<h1 style="font-size: 1.4em">CDKA Studio</h1><p>{text}</p>{form}</body></html>"""
_ASK = "The Studio opens with the link that <code>cdka studio</code> printed."
_FORM = """<form method="get"><label>Or give its token here <input name="token" type="password" autocomplete="off"
style="font: inherit"></label> <button style="font: inherit">Open</button></form>"""


async def _answer(
    scope: dict[str, Any], send: Callable[..., Any], status: int, text: str, with_form: bool = False
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    body = _PAGE.format(text=text, form=_FORM if with_form else "").encode()
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def link(host: str, port: int, token: str = "", base_url: str = "") -> str:
    """The address to open on this machine; behind a proxy, ``base_url``."""
    query = f"?token={token}" if token else ""
    if urlsplit(base_url).netloc:
        return f"{base_url.rstrip('/')}/{query}"
    name = "127.0.0.1" if host in ANY_ADDRESS else f"[{host}]" if ":" in host else host
    path = f"{base_url.strip('/')}/" if base_url.strip("/") else ""
    return f"http://{name}:{port}/{path}{query}"


def _open_browser(host: str, port: int, address: str, home: Path) -> None:
    """Open the Studio once it listens; the token goes through a private file: everybody sees a program's arguments."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1" if host in ANY_ADDRESS else host, port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    if "?" in address:
        page = home / "open-studio.html"
        with contextlib.suppress(OSError):
            write_privately(page, f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">')
            address = page.as_uri()
    webbrowser.open(address)


def _import_ahead() -> None:
    """Import what the rooms stand on while the start page is read: the first room need not wait for it."""
    time.sleep(_START_PAGE_S)
    for name in _ROOMS_STAND_ON:
        importlib.import_module(name)


def launch(
    host: str = "127.0.0.1",
    port: int = 8501,
    *,
    browser: bool = True,
    token: str = "",
    home: Path | None = None,
    base_url: str = "",
) -> None:
    """Serve the Studio until it is stopped, under ``base_url``: the path, or the whole address, that a proxy passes on.

    The theme comes from ``.streamlit/config.toml`` beside ``main.py``.
    """
    global _link_token
    import streamlit as st
    from starlette.middleware import Middleware

    _link_token = token

    @contextlib.asynccontextmanager
    async def opened(_: st.App) -> AsyncIterator[None]:
        if browser:
            arguments = (host, port, link(host, port, token, base_url), home or Path.cwd())
            threading.Thread(target=_open_browser, args=arguments, daemon=True).start()
        threading.Thread(target=_import_ahead, daemon=True).start()
        yield

    sys.argv = [str(ENTRY)]  # Streamlit looks for config.toml beside argv[0]; from `cdka` it would miss the theme
    proxied = urlsplit(base_url)
    door = Middleware(Door, host=host, port=port, token=token, proxy=proxied.hostname or "")
    st.App(ENTRY, lifespan=opened, middleware=[door]).run(
        config={
            "server.address": host,
            "server.port": port,
            "server.baseUrlPath": proxied.path.strip("/"),
            "server.headless": True,  # the browser is opened above, with the token
            "server.fileWatcherType": "none",
            "logger.hideWelcomeMessage": True,  # our own has the link
        }
    )
