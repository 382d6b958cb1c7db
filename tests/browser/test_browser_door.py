"""The door in a real browser: the printed link, the cookie, the form, a foreign frame; and names that want out."""

from __future__ import annotations

import re
from urllib.parse import urlencode, urlsplit

import pytest

from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_printed_link_opens_the_studio_and_nothing_else_does(chromium, serve, settled, tmp_path):
    _, url = serve(token=True)
    token = (tmp_path / "studio" / "studio-token").read_text()
    (link,) = re.findall(r"http://\S+token=\w+", (tmp_path / "studio-0.log").read_text())
    assert link == f"{url}/?token={token}"

    stranger = chromium.new_context().new_page()
    assert stranger.goto(f"{url}/design").status == 403
    assert "printed" in stranger.inner_text("body")
    assert stranger.locator("[data-testid=stApp]").count() == 0
    stranger.get_by_label("token").fill(token)
    stranger.get_by_role("button").click()
    settled(stranger)
    assert stranger.url == f"{url}/design"

    owner = chromium.new_context().new_page()
    owner.goto(link.replace("/?", "/design?r1=4&"))
    settled(owner)
    assert "token" not in owner.url
    assert "r1=4" in owner.url
    owner.get_by_role("link", name="Compare").first.click()
    settled(owner)
    owner.reload()
    settled(owner)
    assert "token" not in owner.url

    frame = owner.context.new_page()
    frame.set_content(f"<iframe src='{url}/design' width=600 height=400></iframe>")
    frame.wait_for_timeout(3000)
    assert all(child.locator("[data-testid=stApp]").count() == 0 for child in frame.frames)


IMAGE = (
    "![x](http://evil.example/x.png)\n\n<img src='http://evil.example/y.png'></style><img src=http://evil.example/z>"
)


def test_hostile_names_make_the_browser_ask_nobody(chromium, serve, settled, tmp_path):
    """A sweep, its note and tags, failures, and the address itself: shown as they stand, and nothing is fetched."""
    store = Store(tmp_path / "studio")
    specs = [
        RunSpec("digits-vit", "digits-flip", components="2,8,1", seed=seed, task_options={"template": IMAGE})
        for seed in range(2)
    ]
    sweep_id = store.create_sweep(IMAGE, {"kind": "grid", "model": IMAGE, "task": IMAGE}, specs)
    store.describe_sweep(sweep_id, note=IMAGE, tags=[IMAGE])
    with store.database.write() as sql:
        sql.execute("UPDATE runs SET status = 'failed', attempt = 1, error = ?, worked_s = 1", (IMAGE,))
    store.close()
    _, url = serve()
    page = chromium.new_context().new_page()
    asked, told = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: told.append(message.text))
    for room, query in (
        ("sweeps", {"part": "Your sweeps"}),
        ("finetune", {"show": sweep_id, "data": IMAGE}),
        ("compare", {"sweep": [sweep_id, IMAGE], "metric": IMAGE, "against": IMAGE}),
        ("design", {"model": IMAGE, "budget": IMAGE}),
        ("learn", {"chapter": IMAGE, "learner": IMAGE}),
    ):
        page.goto(f"{url}/{room}?{urlencode(query, doseq=True)}")
        settled(page)
        assert "evil.example" in page.inner_text("[data-testid=stApp]"), f"{room} shows it"
    assert [place for place in asked if urlsplit(place).hostname not in ("127.0.0.1", None)] == []
    assert [text for text in told if "Content Security Policy" in text] == [], "the policy is the second lock, unused"
