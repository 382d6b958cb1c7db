"""``cdka models``."""

from __future__ import annotations

import argparse

from cdka.errors import nearest, unknown
from cdka.models.catalogue import find_model, list_models
from cdka.models.shapes import ModelShapes, to_json
from cdka.models.targets import target_names
from cdka.notebook.results import Models
from cdka.terminal import print_json, print_table

HELP = "List the models known by name, embedded ones first, or the linear layers of one model."
EXAMPLE = "cdka models llama-3.1-8b"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="show one model: a catalogue name, a Hub id or a local directory")
    parser.add_argument("--family", help="only this family, for example Qwen3")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> None:
    if args.model:
        return _show(find_model(args.model), args.json)
    models = list_models()
    if args.family:
        families = list(dict.fromkeys(shapes.family for shapes in models))
        wanted = set(nearest(args.family, families)) | {f for f in families if f.casefold() == args.family.casefold()}
        if not wanted:
            raise unknown("family", args.family, families, next_step=f"Known: {', '.join(families)}.")
        models = [shapes for shapes in models if shapes.family in wanted]
    if args.json:
        return print_json(Models(models).to_dict())
    print_table(*Models(models).table())


def _show(shapes: ModelShapes, as_json: bool) -> None:
    names = target_names(shapes)
    if as_json:
        return print_json({**to_json(shapes), "target_names": names})
    print(f"{shapes.name}: {shapes.base_params:,} parameters, {shapes.family}, {shapes.kind}")
    print_table(
        ["module", "out", "in", "count", "role"],
        [[s.path, s.out_features, s.in_features, s.count, s.role] for s in shapes.linears],
    )
