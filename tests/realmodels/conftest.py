from __future__ import annotations

import csv
import json

import pytest
from tiny_models import save_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of a small random model, by family; made once."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = save_tiny(family, tmp_path_factory.mktemp(family) / f"tiny-{family}")
        return str(made[family])

    return get


@pytest.fixture(scope="session")
def moods(tmp_path_factory):
    """A CSV of 120 short texts with three labels."""
    path = tmp_path_factory.mktemp("moods") / "moods.csv"
    words = {"good": ["lovely", "great", "fine"], "bad": ["awful", "poor", "sad"], "so-so": ["plain", "usual", "flat"]}
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "label"])
        for i in range(40):
            for label, choices in words.items():
                writer.writerow([f"day {i} was {choices[i % 3]}, I say", label])
    return str(path)


@pytest.fixture(scope="session")
def sums(tmp_path_factory):
    """A JSON Lines file of 60 prompts and answers."""
    path = tmp_path_factory.mktemp("sums") / "sums.jsonl"
    rows = [{"prompt": f"{a}+{b}", "answer": str(a + b)} for a in range(10) for b in range(6)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture(scope="session")
def shades(tmp_path_factory):
    """A folder of 40 small pictures, dark and light."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("shades") / "shades"
    for label, grey in (("dark", 40), ("light", 200)):
        (folder / label).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (20 + i, 18), (grey, grey + i, grey)).save(folder / label / f"{i}.png")
    return str(folder)
