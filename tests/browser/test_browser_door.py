"""The token in a real browser: the printed link, the cookie, the form, a foreign frame."""

from __future__ import annotations

import re

import pytest

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
