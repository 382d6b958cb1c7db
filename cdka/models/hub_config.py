"""Fetch one config.json from the Hub: ``python -m cdka.models.hub_config HUB_ID FILE``.

A process of its own, so that its caller can give up after a fixed time whatever the network does. One attempt, no
retries; the local Hugging Face cache is looked at first. Prints ``{"path": ...}`` or ``{"error": "one line"}``.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_S = 2.0


def fetch(hub_id: str, file: Path) -> dict[str, str]:
    """Write the model's config.json to ``file`` (or point to the cached one)."""
    from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import build_hf_headers

    try:
        cached = try_to_load_from_cache(hub_id, "config.json")
    except HFValidationError:
        return {"error": f"a Hub id is written owner/name: got {hub_id!r}."}
    if isinstance(cached, str):
        return {"path": cached}
    if constants.HF_HUB_OFFLINE:
        return {"error": f"model {hub_id!r} is not in the local cache, and HF_HUB_OFFLINE forbids asking the Hub."}
    request = urllib.request.Request(hf_hub_url(hub_id, "config.json"), headers=build_hf_headers())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            content = response.read(4_000_000)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            return {
                "error": f"model {hub_id!r} is not on the Hub, has no config.json, or needs a login (hf auth login)."
            }
        return {"error": f"the Hub answered {error.code} for {hub_id!r}. Try again later."}
    except (OSError, ValueError):
        return {"error": f"the Hub cannot be reached for {hub_id!r}."}
    file.write_bytes(content)
    return {"path": str(file)}


if __name__ == "__main__":
    print(json.dumps(fetch(sys.argv[1], Path(sys.argv[2]))))
