"""The door of the Studio's server: hosts, origins, frames, the token; asked as ASGI, and over a real connection."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from app import server

TOKEN = "t" * 48
COOKIE = f"cdka-studio-8501={TOKEN}"


async def _inside(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(path="/", *, listens="127.0.0.1", token=TOKEN, kind="http", method="GET", query="", inside=_inside, **headers):
    """(status or "closed", headers, body) of one request to a door."""
    headers = {"host": "127.0.0.1:8501", **{k.replace("_", "-"): v for k, v in headers.items()}}
    scope = {
        "type": kind,
        "path": path,
        "method": method,
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in headers.items() if v is not None],
    }
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(server.Door(inside, host=listens, port=8501, token=token)(scope, None, send))
    if sent[0]["type"] == "websocket.close":
        return "closed", {}, b""
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent)


def test_a_page_of_the_studio_is_shown_once_it_is_drawn_and_everything_else_passes_as_it_is():
    def answer(content_type, accept, path="/design"):
        async def inside(scope, receive, send):
            assert (b"accept-encoding" in dict(scope["headers"])) == (accept != "text/html" or "." in path)
            headers = [(b"content-type", content_type), (b"content-length", b"13"), (b"etag", b"1")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"<head>", "more_body": True})
            await send({"type": "http.response.body", "body": b"</head>"})

        return ask(path, inside=inside, cookie=COOKIE, accept=accept, accept_encoding="gzip")

    _, headers, body = answer(b"text/html; charset=utf-8", "text/html")
    assert body == b"<head>" + server.SHOWN_ONCE_DRAWN.read_bytes() + b"</head>"
    assert headers[b"content-length"] == str(len(body)).encode()
    assert b"etag" not in headers, "a page kept from before has another head"
    for content_type, accept in ((b"text/html", "*/*"), (b"text/css", "text/html")):
        assert answer(content_type, accept)[2] == b"<head></head>"
    assert answer(b"text/html", "text/html", "/media/figure.html")[2] == b"<head></head>", "a figure that is saved"


def test_who_has_the_cookie_or_the_token_comes_in():
    assert ask(cookie=COOKIE)[0] == 200
    assert ask(authorization=f"Bearer {TOKEN}")[0] == 200
    assert ask(kind="websocket", cookie=COOKIE, path="/_stcore/stream")[0] == 200
    assert ask(token="")[0] == 200, "given up with --no-token"
    assert ask("/_stcore/health")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cookie": "cdka-studio-8501=" + "s" * 48},
        {"cookie": f"cdka-studio-8502={TOKEN}"},
        {"cookie": '\\"=;;='},
        {"authorization": TOKEN[:-1]},
        {"query": "token="},
        {"query": "token=" + TOKEN[:-1]},
    ],
)
def test_who_has_not_stays_outside(headers):
    status, _, body = ask(**headers)
    assert status == 403
    assert b"inside" not in body
    assert TOKEN.encode() not in body
    assert ask(kind="websocket", path="/_stcore/stream", **headers)[0] == "closed"
    assert ask(path="/_stcore/upload_file/x", method="PUT", **headers)[0] == 403
    assert ask(path="/media/x.csv", **headers)[0] == 403


def test_the_link_gives_a_cookie_and_an_address_without_the_token():
    status, headers, _ = ask("/design", query=f"r1=2&token={TOKEN}&basket=2%2C8%2C1")
    assert status == 303
    assert headers[b"location"] == b"/design?r1=2&basket=2%2C8%2C1"
    cookie = headers[b"set-cookie"].decode()
    assert cookie.startswith(COOKIE)
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ask("//evil.example/", query=f"token={TOKEN}")[1][b"location"] == b"/evil.example/", "no way out of here"


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("host", "name", "inside"),
    [
        ("127.0.0.1", "localhost:8501", True),
        ("127.0.0.1", "[::1]:8501", True),
        ("127.0.0.1", "evil.example:8501", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "localhost@evil.example", False),
        ("127.0.0.1", "192.168.1.20:8501", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", None, False),
        ("gpu7.lab", "GPU7.lab:8501", True),
        ("gpu7.lab", "evil.example", False),
        ("0.0.0.0", "192.168.1.20:8501", True),
        ("0.0.0.0", "evil.example", False),
    ],
)
def test_a_foreign_name_that_leads_here_is_refused(kind, host, name, inside):
    """DNS rebinding: the page of evil.example asks evil.example, which is this machine by now: its own origin."""
    status = ask(kind=kind, listens=host, host=name, cookie=COOKIE, origin=f"http://{name}")[0]
    assert (status == 200) == inside, status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8501"])
def test_a_foreign_page_is_refused_before_streamlit_asks_the_network_about_it(origin, monkeypatch):
    from streamlit import net_util

    monkeypatch.setattr(net_util, "get_external_ip", lambda: pytest.fail("it asks an outside address"))
    assert ask(kind="websocket", cookie=COOKIE, origin=origin)[0] == "closed"
    assert ask(method="POST", cookie=COOKIE, origin=origin)[0] == 403
    assert ask(cookie=COOKIE, origin="http://127.0.0.1:8501")[0] == 200


def test_foreign_frames_are_refused_and_every_answer_says_so():
    assert ask(cookie=COOKIE, sec_fetch_dest="iframe", sec_fetch_site="cross-site")[0] == 403
    assert ask(cookie=COOKIE, sec_fetch_dest="iframe", sec_fetch_site="same-site")[0] == 403
    status, headers, _ = ask(cookie=COOKIE, sec_fetch_dest="iframe", sec_fetch_site="same-origin")
    assert status == 200
    policy = headers[b"content-security-policy"].decode()
    assert "frame-ancestors 'self'" in policy
    assert "default-src 'self' data: blob: 'unsafe" in policy, "no image from elsewhere"
    assert headers[b"x-frame-options"] == b"SAMEORIGIN"


def test_the_token_is_kept_for_its_owner_alone(tmp_path):
    token = server.token_of(tmp_path)
    assert len(token) == 48
    assert server.token_of(tmp_path) == token, "cookies outlive a restart"
    assert (tmp_path / server.TOKEN_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / server.TOKEN_FILE).write_text("short")
    assert server.token_of(tmp_path) != "short"


def test_a_class_is_invited_with_the_token(monkeypatch):
    from app.learn import classroom

    assert classroom.invitation("http://a/learn?page=1") == "http://a/learn?page=1"
    monkeypatch.setattr(server, "_link_token", TOKEN)
    assert classroom.invitation("http://a/learn?page=1") == f"http://a/learn?page=1&token={TOKEN}"
    assert classroom.invitation("http://a/learn") == f"http://a/learn?token={TOKEN}"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX rights")
def test_the_home_is_private(tmp_path, monkeypatch):
    from cdka.runs.store import Store

    home = tmp_path / "new" / "home"
    old = tmp_path / "old"
    old.mkdir(mode=0o755)
    old.chmod(0o755)
    for folder in (home, old):
        store = Store(folder)
        with store.database.write() as sql:
            sql.execute("DELETE FROM requests")
        assert folder.stat().st_mode & 0o777 == 0o700
        for file in folder.glob("runs.sqlite3*"):
            assert file.stat().st_mode & 0o777 == 0o600, file
    (old / "runs.sqlite3").chmod(0o644)
    Store(old)
    assert (old / "runs.sqlite3").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_real_server_refuses_what_the_door_refuses(tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "log").open("wb") as log:
        studio = subprocess.Popen(
            [sys.executable, "-m", "cdka", "studio", "--no-browser", "--port", str(port)],
            env={**os.environ, "CDKA_HOME": str(tmp_path / "home")},
            stdout=log,
            stderr=log,
        )
    base = f"http://127.0.0.1:{port}"

    def status(path="/", **headers):
        try:
            request = urllib.request.Request(base + path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            return urllib.request.urlopen(request, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code

    try:
        deadline = time.monotonic() + 120
        while True:
            assert studio.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            try:
                if status("/_stcore/health") == 200:
                    break
            except OSError:
                time.sleep(0.2)
        token = (tmp_path / "home" / server.TOKEN_FILE).read_text()
        assert f"{base}/?token={token}" in (tmp_path / "log").read_text()
        cookie = f"cdka-studio-{port}={token}"
        assert status() == 403
        assert status(Cookie=cookie) == 200
        assert status(Cookie=cookie, Host="evil.example") == 403
        assert _upgraded(port, "/_stcore/stream", f"127.0.0.1:{port}", cookie) == 101
        assert _upgraded(port, "/_stcore/stream", f"127.0.0.1:{port}", "") == 403
        assert _upgraded(port, "/_stcore/stream", "evil.example", cookie) == 403
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        studio.terminate()
        studio.wait(timeout=20)


def _upgraded(port, path, host, cookie):
    """The status of a WebSocket handshake."""
    import socket

    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", f"Origin: http://{host}", f"Cookie: {cookie}"]
    lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: streamlit", "", ""]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.recv(64).split()[1])
