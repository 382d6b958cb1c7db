"""The verbs at the top of ``cdka`` beside ``solve`` and ``compare_runs``: measure, fine-tune, sweep, open, ask, list.

Each is one call of what the Studio and the command line use, and returns an object that draws itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdka.components import Components
from cdka.errors import CdkaError
from cdka.notebook.runs import RunHandle, Store, SweepHandle

if TYPE_CHECKING:
    from torch import nn

    from cdka.notebook.results import Alignment, Answers, Description, Models, OpenedAdapter, Tasks
    from cdka.notebook.runs import Reproduction

Given = str | Sequence[int] | Components


def measure_alignment(model: str, task: str, **settings: Any) -> Alignment:
    """The alignment of every option's first step with full fine-tuning's, measured on real gradients of ``task``.

    Runs in a process of its own and is kept: asking again costs nothing. ``settings`` are those of
    ``cdka.align.AlignRequest`` (``batches``, ``batch_size``, ``seed``, ``r1_values``, ``r2_values``, ``r_values``,
    ``inits``, ``step``); ``task`` may be a file of your own, with its columns (``label_column``, ...). Raises
    CdkaError.

    >>> measured = cdka.measure_alignment("digits-vit", "digits-flip", r1_values=(1, 2), r2_values=(8,), r_values=(4,))
    >>> measured.frame()[["r1", "r2", "r", "num_params"]].to_numpy().tolist()
    [[1, 8, 4, 116480], [2, 8, 4, 60928]]
    """
    from cdka.align import AlignRequest, align
    from cdka.notebook.results import Alignment

    task, settings = _task(task, settings)
    for values in ("r1_values", "r2_values", "r_values"):
        if values in settings:
            settings[values] = tuple(settings[values])
    return Alignment(align(AlignRequest(model=model, task=task, **settings)))


def fine_tune(
    model: str,
    task: str,
    *,
    components: Given | None = None,
    in_process: bool = False,
    home: str | Path | None = None,
    **settings: Any,
) -> RunHandle:
    """A run, started: its handle is returned at once, and ``wait()`` waits for it.

    ``task`` is a task's name, or a file or folder of your own, whose columns are named by ``text_column``,
    ``label_column``, ... as in ``cdka run``. ``settings`` are those of a run (``method``, ``rank``, ``lr``, ``steps``,
    ``seed``, ``epochs``, ...); what is not given comes from the task's recipe. The run survives the kernel, unless
    ``in_process`` trains it here, before this returns. Raises CdkaError.

    >>> run = cdka.fine_tune("digits-vit", "digits-flip", components=(2, 8, 1), steps=20)
    >>> run.wait(progress=False).metrics["test/accuracy"]
    0.6...
    """
    from cdka.runs.resolve import resolve_run, spec_for
    from cdka.sweep.launch import check_runs, launch_runs

    task, settings = _task(task, settings)
    given = None if components is None else Components.parse(components)
    spec = spec_for(model, task, components=given, **settings)
    store = Store(home)
    if in_process:
        from cdka.engine.worker import run_in_process

        run = resolve_run(spec)
        check_runs([run])
        return RunHandle(store, run_in_process(store, run.spec))
    return RunHandle(store, launch_runs([spec], store)[0])


def run_sweep(
    model: str,
    task: str,
    *,
    grid: str | Mapping[str, Any] | None = None,
    arms: Iterable[Mapping[str, Any] | Given] = (),
    seeds: int | Sequence[int] | None = None,
    baselines: Sequence[str] | str = (),
    budget: int | float | str | None = None,
    options: int = 0,
    tune_lr: Sequence[float] = (),
    name: str | None = None,
    packs: bool = True,
    home: str | Path | None = None,
    **settings: Any,
) -> SweepHandle:
    """A sweep, started: every arm with every seed, baselines matched by parameters to ``budget``.

    ``grid`` is ``"r1=1,2;r2=4,8;r=1"`` or a mapping of such lists; ``arms`` are further configurations, as components
    or as mappings of settings. Without a budget the baselines match the largest arm; with ``"each"``, every price has
    its own. The rest is as in ``cdka.sweep.plan``; ``settings`` are shared by all runs. Raises CdkaError.

    >>> settings = {"seeds": 2, "steps": 5, "baselines": "lora", "budget": "each"}
    >>> sweep = cdka.run_sweep("digits-vit", "digits-flip", grid="r1=1,2;r2=8;r=1", **settings)
    >>> found = sweep.wait(progress=False).compare()
    >>> sorted(found.frame()["arm_label"])
    ['cdka 1,8,1', 'cdka 2,8,1', 'lora 2', 'lora 4']
    """
    from cdka.sweep.launch import launch
    from cdka.sweep.plan import plan

    task, settings = _task(task, settings)
    planned = plan(
        model,
        task,
        grid=grid,
        arms=[arm if isinstance(arm, Mapping) else {"components": Components.parse(arm)} for arm in arms],
        seeds=seeds,
        baselines=[baselines] if isinstance(baselines, str) else list(baselines),
        budget=budget,
        options=options,
        tune_lr=tune_lr,
        settings=settings,
        name=name,
    )
    for note in planned.notes:
        print(note)
    store = Store(home)
    return SweepHandle(store, launch(planned, store, packs=packs))


def run_study(
    name: str,
    *,
    model: str | None = None,
    task: str | None = None,
    seeds: int | Sequence[int] | None = None,
    home: str | Path | None = None,
    **settings: Any,
) -> SweepHandle:
    """A study of one of the paper's claims, started; after ``wait()`` its handle shows the verdicts (``findings()``).

    ``name`` is one of ``cdka study list``. Raises CdkaError.

    >>> study = cdka.run_study("r2", seeds=1, steps=4)
    >>> {finding.verdict for finding in study.wait(progress=False).findings()}
    {'not resolved'}
    """
    from cdka.claims import find_study, plan_study
    from cdka.claims.plan import DEFAULT_MODEL, DEFAULT_TASK
    from cdka.sweep.launch import launch

    task, settings = _task(task or DEFAULT_TASK, settings)
    planned = plan_study(find_study(name), model or DEFAULT_MODEL, task, seeds=seeds, settings=settings)
    store = Store(home)
    return SweepHandle(store, launch(planned, store))


def reproduce(path: str | Path, *, home: str | Path | None = None) -> Reproduction:
    """The runs of an exported comparison, started again; after ``wait()`` the recorded values stand beside the new.

    ``path`` is the ``.json`` beside the script or notebook that Compare or ``cdka compare --export`` wrote. Raises
    CdkaError.

    >>> again = cdka.reproduce("reproduce.json").wait(progress=False)
    >>> again.values().columns.to_list()
    ['run_id', 'configuration', 'seed', 'recorded', 'reproduced']
    """
    from cdka.compare.exports.script import read_claim, specs_of
    from cdka.notebook.runs import Reproduction
    from cdka.runs.resolve import resolve_runs
    from cdka.sweep.launch import launch
    from cdka.sweep.plan import Plan

    claim = read_claim(Path(path))
    runs = tuple(resolve_runs(specs_of(claim)))
    name = f"{claim['name']} again"
    recorded = [run["value"] for run in claim["runs"]]
    measure = {key: claim[key] for key in ("metric", "aggregation", "step")}
    first = runs[0].spec
    document = {"name": name, "model": first.model, "task": first.task, "recorded": recorded, "measure": measure}
    store = Store(home)
    return Reproduction(store, launch(Plan(name, (), runs, (), document), store, packs=False))


def open_adapter(path: str | Path | RunHandle, **settings: Any) -> OpenedAdapter:
    """An adapter of any kind (LoRA, LoKr, LoHa, CDKA), opened: its place in (r1, r2, r), its layers, its servers.

    ``path`` is a safetensors file, a folder, or a run; ``settings`` are those of ``cdka.adapter_files.open_adapter``.
    Needs no torch. Raises CdkaError.

    >>> adapter = cdka.open_adapter("my-lora")
    >>> adapter.kind, adapter.num_params, adapter.modules[0].components
    ('peft-lora', 256, Components(r1=1, r2=1, r=2))
    """
    from cdka.adapter_files.read import open_adapter as read
    from cdka.notebook.results import OpenedAdapter

    place = path.adapter_dir if isinstance(path, RunHandle) else path
    return OpenedAdapter(read(place, **settings), place)


def generate(
    adapter: str | Path | RunHandle | OpenedAdapter,
    prompt: str,
    *,
    against: Sequence[str | RunHandle] | str = ("base",),
    max_new_tokens: int | None = None,
    home: str | Path | None = None,
) -> Answers:
    """The answers to a prompt of ``against`` (``"base"``, other adapters) and of ``adapter``, side by side.

    ``adapter`` is a run, its id, or a folder; a classifier answers with its labels, an image model takes a picture's
    path. Runs in a process of its own. Raises CdkaError.

    >>> run = cdka.fine_tune("math-lm", "math-chain", components=(2, 8, 1), steps=2).wait(progress=False)
    >>> answers = cdka.generate(run, "7*8-6=")
    >>> [answer["who"] for answer in answers]
    ['base', 'cdka 2,8,1 (r-...)']
    """
    from cdka.engine.tryout import ask, finished
    from cdka.notebook.results import Answers

    others = [against] if isinstance(against, str) else list(against)
    tryout = ask(
        _named(adapter),
        prompt,
        against=[_named(one) for one in others],
        store=adapter.store if isinstance(adapter, RunHandle) else Store(home),
        max_new_tokens=max_new_tokens,
    )
    return Answers(prompt, finished(tryout))


def _named(adapter: Any) -> str:
    """An adapter as a run's id or a folder."""
    if isinstance(adapter, RunHandle):
        return adapter.run_id
    return str(getattr(adapter, "path", None) or adapter)


def list_models() -> Models:
    """The models known by name, embedded ones first: a sequence of ``ModelShapes`` that draws itself as a table.

    >>> cdka.list_models()[0].name
    'digits-vit'
    """
    from cdka.models.catalogue import list_models as listed
    from cdka.notebook.results import Models

    return Models(listed())


def list_tasks() -> Tasks:
    """The tasks known by name, embedded ones first: a sequence of ``TaskInfo`` that draws itself as a table.

    >>> [task.name for task in cdka.list_tasks() if task.embedded]
    ['digits-flip', 'digits', 'math-chain', 'math']
    """
    from cdka.notebook.results import Tasks
    from cdka.tasks.catalogue import TASKS

    return Tasks(sorted(TASKS.values(), key=lambda task: not task.embedded))


def describe(model: nn.Module) -> Description:
    """The place of a live PEFT model: components, parameters, rank and predicted alignment of every adapted module.

    Takes CDKA, LoRA and LoKr; imports torch, as the model has. Raises CdkaError for a model without such an adapter.

    >>> from peft import get_peft_model
    >>> from torch import nn
    >>> base = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))
    >>> place = cdka.describe(get_peft_model(base, cdka.CdkaConfig(r1=2, r2=8, r=4, target_modules=["0", "2"])))
    >>> place.num_params, place.modules[0].rank_bound
    (864, 32)
    """
    from cdka.adapter.place import placed_modules
    from cdka.notebook.results import Description

    name, modules = placed_modules(model)
    base = getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__
    return Description(f"{Path(str(base)).name}, adapter {name!r}", modules)


def _task(task: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(task, settings): a file or folder of the user's becomes the task that suits it, its columns ``task_options``."""
    from cdka.tasks.catalogue import TASKS
    from cdka.tasks.files.preview import DATA_OPTIONS, task_for
    from cdka.tasks.files.table import looks_like_data

    own = {key: value for key, value in settings.items() if key in DATA_OPTIONS}
    rest = {key: value for key, value in settings.items() if key not in own}
    if task not in TASKS and looks_like_data(task):
        task, rest["task_options"] = task_for(task, {**own, **(rest.get("task_options") or {})})
    elif own:
        raise CdkaError(f"{next(iter(own))} describes your own data: got the task {task!r}. Give a file as the task.")
    return task, rest
