"""A callback that writes the training of transformers' Trainer, or of TRL's trainers, into the store of runs.

``trainer.add_callback(CdkaCallback())`` is all it takes: the run appears in Fine-tune and Compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cdka.adapter.place import PlacedModule, placed_modules
from cdka.errors import CdkaError
from cdka.notebook.log import LoggedRun, log_run
from cdka.notebook.runs import RunHandle

_NOT_SCORES = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


class CdkaCallback(TrainerCallback):
    """Reports a Trainer's run: its (r1, r2, r), seed, learning rate, losses, evaluations, and at the end its adapter.

    ``task`` names the data (default: the folder of the training script's output), ``group`` the runs to compare it
    with. ``save_adapter`` keeps the adapter with the run. ``run`` is the handle of the last run. Only the leading
    process reports. Stop and Cancel in the Studio end the training after its step.

    >>> report = CdkaCallback(task="reviews")
    >>> trainer.add_callback(report)
    >>> done = trainer.train()
    >>> report.run.status
    <RunState.DONE: 'done'>
    """

    def __init__(
        self,
        *,
        task: str | None = None,
        model: str | None = None,
        group: str | None = None,
        save_adapter: bool = True,
        home: str | Path | None = None,
    ) -> None:
        self._task, self._model, self._group, self._home = task, model, group, home
        self._save_adapter = save_adapter
        self._log: LoggedRun | None = None

    @property
    def run(self) -> RunHandle | None:
        """The handle of the run; None before the training has begun."""
        return None if self._log is None else self._log.handle

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens the run."""
        if not state.is_world_process_zero:
            return
        model = kwargs["model"]
        settings, modules = _adapter_of(model)
        trained = sum(module.num_params for module in modules)
        trained = trained or sum(part.numel() for part in model.parameters() if part.requires_grad)
        task = self._task or Path(args.output_dir or "trainer").name
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * max(1, args.world_size)
        self._log = log_run(
            model=self._model or _name_of(model),
            task=task,
            group=self._group,
            home=self._home,
            num_params=trained,
            lr=args.learning_rate,
            steps=max(1, state.max_steps),
            batch_size=batch,
            seed=args.seed,
            weight_decay=args.weight_decay,
            gradient_accumulation=args.gradient_accumulation_steps,
            **settings,
        )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Reports the training loss."""
        if self._log is not None and logs and "loss" in logs:
            self._log.step(
                state.global_step, loss=logs["loss"], lr=logs.get("learning_rate"), grad_norm=logs.get("grad_norm")
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ends the training where somebody asked for it in the Studio."""
        if self._log is not None and self._log.stop_requested is not None:
            control.should_training_stop = True

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Reports an evaluation under the names that it has, ``eval_accuracy`` as ``eval/accuracy``."""
        scores = {
            name.removeprefix("eval_"): value
            for name, value in (metrics or {}).items()
            if isinstance(value, int | float) and not name.endswith(_NOT_SCORES) and name != "epoch"
        }
        if self._log is not None and scores:
            self._log.evaluate(scores)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Saves the adapter and ends the run."""
        if self._log is None:
            return
        request = self._log.stop_requested
        if request == "cancel":
            self._log.cancel()
            return
        if self._save_adapter and hasattr(kwargs["model"], "peft_config"):
            self._log.save_adapter(kwargs["model"])
        self._log.finish(stopped=request == "keep")


def _name_of(model: nn.Module) -> str:
    """The last part of the base model's name or folder."""
    name = str(getattr(getattr(model, "config", None), "name_or_path", "") or "")
    return Path(name).name or type(model).__name__


def _adapter_of(model: nn.Module) -> tuple[dict[str, Any], list[PlacedModule]]:
    """(the settings of a run that the model's adapter shows, its modules): full fine-tuning where there is none."""
    try:
        name, modules = placed_modules(model)
    except CdkaError:
        return {"method": "full"}, []
    first, config = modules[0], model.peft_config[name]
    alpha = getattr(config, "alpha", None) or getattr(config, "lora_alpha", None)
    settings: dict[str, Any] = {"method": first.method}
    if first.method == "cdka":
        settings["components"] = first.components
        others = {module.path.rsplit(".", 1)[-1]: module.components for module in modules}
        settings["component_pattern"] = {
            last: components for last, components in others.items() if components != first.components
        }
        settings["scaling_rule"] = config.scaling_rule
    else:
        settings["rank"] = int(getattr(config, "r", first.components.r))
    if isinstance(alpha, int | float) and alpha > 0:
        settings["alpha"] = float(alpha)
    return settings, modules
