"""Made-up runs for the tests of Compare: known effects, known noise, in the store's own column layout."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cdka.components import Components
from cdka.runs.spec import RunSpec

OUT, IN = 1024, 640


def params(components: Components | None, rank: int | None) -> int:
    if components is not None:
        r1, r2, r = components.as_tuple()
        return r * (r2 * OUT // r1 + r1 * IN // r2)
    return 302_000 if rank is None else rank * (OUT + IN)


class FakeSource:
    """A source in memory. ``effect(spec)`` is an arm's true accuracy, ``noise`` the SD of what one run adds."""

    def __init__(self, specs, effect, *, noise=0.01, seed_noise=0.03, rng_seed=0, status=None, examples=200):
        self.name = "synthetic"
        self.rng = np.random.default_rng(rng_seed)
        self._specs = {f"run-{i:04d}": spec for i, spec in enumerate(specs)}
        shared = {seed: self.rng.normal(0, seed_noise) for seed in sorted({spec.seed for spec in specs})}
        self.status = {run_id: (status or {}).get(run_id, "done") for run_id in self._specs}
        self.accuracy = {
            run_id: effect(spec) + shared[spec.seed] + self.rng.normal(0, noise) for run_id, spec in self._specs.items()
        }
        self.examples = examples

    def frame(self) -> pd.DataFrame:
        rows = []
        for i, (run_id, spec) in enumerate(self._specs.items()):
            c = spec.components
            done = self.status[run_id] in ("done", "stopped")
            rows.append(
                {
                    "run_id": run_id,
                    "sweep_id": "s1",
                    "model": spec.model,
                    "task": spec.task,
                    "method": spec.method,
                    "label": spec.label,
                    "r1": c and c.r1,
                    "r2": c and c.r2,
                    "r": c and c.r,
                    "rank": spec.rank,
                    "alpha": spec.alpha,
                    "lr": spec.lr,
                    "steps": spec.steps,
                    "batch_size": spec.batch_size,
                    "seed": spec.seed,
                    "status": self.status[run_id],
                    "num_params": params(c, spec.rank),
                    "seconds": 6.0 + i % 5,
                    "created_at": 1e9 + i,
                    "test/accuracy": self.accuracy[run_id] if done else np.nan,
                    "eval/best_accuracy": self.accuracy[run_id] + 0.01 if done else np.nan,
                    "eval/loss": 1 - self.accuracy[run_id] if done else np.nan,
                }
            )
        return pd.DataFrame(rows)

    def specs(self):
        return {run_id: spec.to_dict() for run_id, spec in self._specs.items()}

    def curves(self, run_ids):
        rows = []
        for run_id in run_ids:
            spec, final = self._specs[run_id], self.accuracy[run_id]
            last = spec.steps if self.status[run_id] in ("done", "stopped") else spec.steps // 2
            for step in range(0, last + 1, spec.eval_every):
                part = 1 - np.exp(-4 * step / spec.steps)
                rows.append((run_id, "eval", step, step * 64, 0.03 * step, 0.1 + (final - 0.1) * part, 2.3 - 2 * part))
        return pd.DataFrame(
            rows, columns=["run_id", "kind", "step", "samples", "elapsed_s", "eval/accuracy", "eval/loss"]
        )

    def predictions(self, run_id):
        rng = np.random.default_rng(int(run_id[-4:]))
        label = np.arange(self.examples) % 10
        right = rng.random(self.examples) < self.accuracy[run_id]
        return pd.DataFrame(
            {"example": np.arange(self.examples), "label": label, "predicted": np.where(right, label, (label + 1) % 10)}
        )

    def adapter_dir(self, run_id):
        return None

    def versions(self, run_id):
        return {"torch": "2.13.0", "peft": "0.21.2"}

    def errors(self):
        return {run_id: "out of memory at step 3" for run_id, s in self.status.items() if s == "failed"}


def grid(r1=(1, 2, 4, 8), r2=(4,), r=(1,), seeds=3, **settings) -> list[RunSpec]:
    settings = {"model": "digits-vit", "task": "digits-flip", "steps": 120, "lr": 2e-3, "alpha": 8.0, **settings}
    return [
        RunSpec(components=Components(a, b, c), seed=seed, **settings)
        for a in r1
        for b in r2
        for c in r
        for seed in range(seeds)
    ]
