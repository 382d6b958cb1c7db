"""``cdka study``."""

from __future__ import annotations

import argparse
from pathlib import Path

from cdka.claims import GROUPS, STUDIES, find_study, judge, plan_study
from cdka.claims.catalogue import DEFAULT_SEEDS
from cdka.claims.plan import DEFAULT_MODEL, DEFAULT_TASK
from cdka.claims.report import check_target, report, shortened
from cdka.claims.verify import TOLERANCE, chosen_results, plan_verification, read_report, repeated
from cdka.cli.flags import add_data_arguments, add_spec_arguments, seeds, spec_settings, task_and_options
from cdka.cli.progress import exit_code, follow, print_failures
from cdka.errors import CdkaError
from cdka.formatting import clock, plural
from cdka.runs.store import Store
from cdka.sweep.forecast import forecast
from cdka.sweep.launch import launch
from cdka.terminal import print_json, print_message, print_table

HELP = "Test the paper's claims: each study runs its arms with several seeds and ends with a verdict."
EXAMPLE = "cdka study bases --report bases.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help="list (default), bases, trends, names of studies (r1 r2 r), or: verify REPORT.json",
    )
    add("--model", default=DEFAULT_MODEL, help=f"default {DEFAULT_MODEL}")
    add("--task", help=f"a task's name, or a data file of your own, as --data takes it (default {DEFAULT_TASK})")
    add(
        "--seeds",
        metavar="N",
        help=f"a number of seeds, or a list: 3,4,5 (default {DEFAULT_SEEDS}, 2 on each base model of bases)",
    )
    add("--report", metavar="FILE.md", help="write the result as Markdown, with figures and data beside it")
    add("--share", type=float, default=0.1, metavar="S", help="verify: the share of the runs to repeat (default 0.1)")
    add(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="T",
        help=f"verify: how far a value may be from the recorded one (default {TOLERANCE:g}; 0 on the same machine)",
    )
    add("--json", action="store_true", help="one JSON document on stdout")
    add_data_arguments(parser)
    add_spec_arguments(parser, without=("seed", "components", "component_pattern", "method"))


def run(args: argparse.Namespace) -> int:
    if not args.names or args.names == ["list"]:
        return _list(args.json)
    if args.names[0] == "verify":
        return _verify(args)
    names = [name for given in args.names for name in GROUPS.get(given, (given,))]
    task, options = task_and_options(args)
    settings = spec_settings(args)
    if options:
        settings["task_options"] = {**options, **settings.get("task_options", {})}
    planned = [
        plan_study(
            find_study(name),
            args.model,
            task or DEFAULT_TASK,
            seeds=args.seeds and seeds(args.seeds),
            settings=settings,
        )
        for name in dict.fromkeys(names)
    ]
    target = Path(args.report) if args.report else None
    if target is not None:
        check_target(target)
    store = Store()
    sweep_ids = []
    for one in planned:
        guess = forecast(one.runs, store).time
        about = "" if guess.seconds is None else f", about {clock(guess.seconds)} ({guess.basis})"
        print_message(f"{one.name}: {len(one.specs)} runs{about}")
        sweep_ids.append(launch(one, store))
    runs = follow(store, [run.run_id for sweep_id in sweep_ids for run in store.runs(sweep_id=sweep_id)])
    expected = {one for one in sweep_ids if find_study(store.sweep(one).plan["study"]).may_diverge}
    others = [run for run in runs if run.sweep_id not in expected]
    print_failures(store, others)
    sweeps = [store.sweep(sweep_id) for sweep_id in sweep_ids]
    findings = [(sweep, judge(store, sweep)) for sweep in sweeps]
    if target is not None and not any(run.status.is_kept() for run in runs):
        print_message(f"no run was kept, so there is nothing to report: {target} was not written")
    elif target is not None:
        report(store, sweeps, name=target.stem).write(target)
        print_message(f"wrote {target}, its figures and {target.with_suffix('.json').name}")
    if args.json:
        print_json(
            {
                "studies": [
                    {"study": sweep.plan["study"], "sweep_id": sweep.sweep_id, "findings": [f.to_dict() for f in found]}
                    for sweep, found in findings
                ]
            }
        )
    else:
        for _, found in findings:
            for finding in found:
                print(finding.sentence)
    return exit_code(others) if others else 0


def _verify(args: argparse.Namespace) -> int:
    """Repeat the runs of a report; 0 where all agree, 1 where one does not."""
    if len(args.names) != 2:
        raise CdkaError("verify takes one report. Example: cdka study verify assets/studies/bases.json --share 0.1")
    document = read_report(Path(args.names[1]))
    chosen = chosen_results(document, args.share)
    store = Store()
    sweep_id = launch(plan_verification(document, chosen), store)
    follow(store, [run.run_id for run in store.runs(sweep_id=sweep_id)])
    found = repeated(store, store.sweep(sweep_id), chosen, document["metric"])
    apart = [one for one in found if not one.agrees(args.tolerance)]
    exact = sum(one.recorded == one.again for one in found)
    if args.json:
        rows = [{"settings": shortened(o.spec.to_dict()), "recorded": o.recorded, "again": o.again} for o in found]
        print_json({"report": document["name"], "sweep_id": sweep_id, "apart": len(apart), "runs": rows})
        return 1 if apart else 0
    total = sum(len(study["results"]) for study in document["studies"])
    print(
        f"{document['name']}: {len(found)} of {plural(total, 'run')} repeated; {exact} to the last digit, "
        f"{len(found) - len(apart)} within {args.tolerance:g}"
    )
    for one in apart:
        print(f"  {one.spec.model} {one.spec.label} seed {one.spec.seed}: recorded {one.recorded}, now {one.again}")
    return 1 if apart else 0


def _list(as_json: bool) -> int:
    if as_json:
        fields = ("name", "title", "claim", "source", "design")
        print_json({"studies": [{key: getattr(study, key) for key in fields} for study in STUDIES.values()]})
    else:
        print_table(["study", "question", "claim"], [[s.name, s.title, s.claim] for s in STUDIES.values()])
    return 0
