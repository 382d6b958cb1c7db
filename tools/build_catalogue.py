"""Build ``assets/models.json``: ``python -m tools.build_catalogue [assets folder]``.

Instantiates every architecture of ``published`` and every ``assets/*/config.json`` on the meta device and stores its
shapes. Needs torch and transformers; no weights and no network.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cdka.models.shapes import FORMAT, ModelShapes, to_json
from cdka.paths import assets_dir
from cdka.train.read_shapes import shapes_from_config
from tools.published import PUBLISHED, Published

FAMILIES = {"vit": "ViT", "llama": "Llama", "gpt2": "GPT-2", "bert": "BERT", "t5": "T5", "qwen2": "Qwen2.5"}
"""Names of the families of embedded models."""
EMBEDDED_LICENCE = "MIT (made by this project)"


def build_published(entry: Published) -> ModelShapes:
    """The shapes of one published architecture."""
    config = {**entry.config, "architectures": [entry.architecture]}
    shapes = shapes_from_config(
        config, entry.name, hub_id=entry.hub_id, family=entry.family, kind=entry.kind, licence=entry.licence
    )
    return replace(shapes, base_params=shapes.base_params + entry.untied_params)


def embedded_models(assets: Path) -> Iterator[ModelShapes]:
    """The shapes of each model that lies in the assets folder."""
    for path in sorted(assets.glob("*/config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        yield shapes_from_config(
            config,
            path.parent.name,
            family=FAMILIES.get(config["model_type"], ""),
            licence=EMBEDDED_LICENCE,
            embedded=True,
        )


def write_catalogue(models: list[ModelShapes], path: Path) -> None:
    """One model a line, so that a change shows as one line."""
    lines = ",\n".join(json.dumps(to_json(model)) for model in models)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f'{{"format": {FORMAT}, "models": [\n{lines}\n]}}\n', encoding="utf-8")
    temporary.replace(path)


def main(argv: list[str]) -> int:
    assets = Path(argv[0]) if argv else assets_dir()
    models = [*embedded_models(assets), *(build_published(entry) for entry in PUBLISHED)]
    write_catalogue(models, assets / "models.json")
    for model in models:
        print(
            f"{model.name:18} {model.base_params:>15,} parameters, {sum(s.count for s in model.linears)} linear layers"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
