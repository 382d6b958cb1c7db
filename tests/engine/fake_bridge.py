"""A bridge to no cluster: it answers the JSON lines of a dispatcher out of a fixed run, by the cursors that it is told.

``python fake_bridge.py ray:HOST:PORT``. The address says how it behaves: ``ray:dies:1`` ends after its third answer,
``ray:loses:1`` reports a dead node in attempt 1 and trains attempt 2, ``ray:forgets:1`` knows no job at all,
``ray:refuses:1`` cannot connect, ``ray:hushes:1`` is silent for a while behind its second answer.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

STEPS = 6
NODE = {"node": "abcdef012345", "name": "box", "address": "10.0.0.2", "cpus": 2, "gpus": 0, "head": False}


def say(**message) -> None:
    print(json.dumps(message), flush=True)


def events_of_a_run() -> list[dict]:
    steps = [
        {"kind": "step", "step": n, "train/loss": 1 / n, "samples": n, "elapsed_s": n / 10} for n in range(1, STEPS + 1)
    ]
    start = {"kind": "start", "num_params": 42, "total_steps": STEPS, "versions": {"fake": "1"}}
    return [start, *steps, {"kind": "final", "metrics": {"test/accuracy": 0.5, "steps_done": STEPS}, "stopped": False}]


def answer(command: dict, attempt: int, kind: str) -> dict:
    """Two events a time behind what is stored; the adapter comes with the last."""
    said: dict = {"report": command["job_id"], "worked_s": 1.0, "events": {}, "files": {}, "arrived": {}}
    if not command["placed"]:
        said["place"] = [4242, NODE["node"], "box/abcdef cpu"]
    if kind == "forgets":
        return {"report": command["job_id"], "outcome": ["gone", ""]}
    done = True
    for i, stored in enumerate(command["seqs"]):
        if stored is None:  # its run has ended
            continue
        found = events_of_a_run()[stored : stored + 2]
        if kind == "loses" and attempt == 1 and stored >= 4:
            return {"report": command["job_id"], "outcome": ["node", "NodeDiedError"]}
        if found:
            done = False
            said["events"][i] = found
        if any(event["kind"] == "final" for event in found):
            arrived = Path(command["runs"][i][1]) / ".arrived-final"
            (arrived / "adapter").mkdir(parents=True, exist_ok=True)
            (arrived / "adapter" / "weights").write_text(str(attempt))
            said["files"][f"{i}-final"] = 0
            said["arrived"][f"{i}-final"] = str(arrived)
    return {"report": command["job_id"], "outcome": ["ended", ""]} if done else said


def main(address: str) -> None:
    kind = address.split(":")[1]
    if kind == "refuses":
        say(error=f"a cluster must answer: nothing does at {address} (Connection refused). Check the address.")
        return
    say(connected=True)
    say(nodes=[NODE])
    attempts: dict[str, int] = {}
    answers = 0
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "submit":
            attempts[command["job_id"]] = command["request"]["runs"][0][1]
        if command["do"] in ("submit", "watch"):
            say(**answer(command, attempts.get(command["job_id"], 1), kind))
            answers += 1
            if kind == "dies" and answers == 3:
                return
            if kind == "hushes" and answers == 2:
                time.sleep(1.5)


if __name__ == "__main__":
    main(sys.argv[1])
