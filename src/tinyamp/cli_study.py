"""`tinyamp study`: the whole experiment of the paper, run, resumed and shown.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyamp.cli_options import RAW, path, positive
from tinyamp.files import InputError, data_folder

if TYPE_CHECKING:
    from tinyamp.paper import TableRow
    from tinyamp.study_bench import Workshop

PRESETS = ("laptop", "paper", "tiny")
STUDY_HELP = """\
The whole experiment of the paper as one workflow: every device and hidden size is trained,
searched, pruned, retrained and compared. Every result is a file; what is there is not run again,
and a job that was killed goes on from its last epoch.
"""
STUDY_EPILOG = """\
examples:
  tinyamp study plan                     what there is to do, and how long it takes here
  tinyamp study run -j 2                 run it, two jobs at once; the same again goes on
  tinyamp study status                   how far it is
  tinyamp study rtf                      time the models, when the machine is quiet
  tinyamp study table                    Table I, as far as it is finished

On a Slurm cluster, after `pip install snakemake-executor-plugin-slurm`:
  tinyamp study run --preset paper -- --executor slurm --jobs 100 --default-resources gpu=1

`laptop` needs the full simulated sets (`tinyamp data make`), `paper` a GPU and the authors'
recordings (`tinyamp data fetch`). `tiny` shows in a minute that the machinery works.
"""
LABELS = {
    "early-bird": "  (Early-Bird)",
    "units": "  (whole units)",
    "units-longer": "  (whole units, retrained for longer)",
}
INTERRUPTED = "`tinyamp study run` goes on where it was."


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `study` and its own commands."""
    study = commands.add_parser(
        "study",
        help="run the whole experiment of the paper",
        description=STUDY_HELP,
        epilog=STUDY_EPILOG,
        formatter_class=RAW,
    )
    study.set_defaults(run=lambda args: study.print_help())
    actions = study.add_subparsers(title="commands", metavar="COMMAND")
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument("--preset", choices=PRESETS, default="laptop", help="default: laptop")
    places.add_argument("--results", type=path, help="default: results/PRESET in the data folder")
    places.add_argument("--runs", type=path, help="checkpoints (default: runs/study/PRESET)")

    def add(name: str, run: Callable, help: str, *examples: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog="\n  ".join(["examples:", *(f"tinyamp study {line}" for line in examples)]),
            formatter_class=RAW,
            parents=[places],
        )
        parser.set_defaults(run=run, interrupted=INTERRUPTED)
        return parser

    add("plan", run_plan, "say what there is to do and time how long it will take here", "plan")
    run = add(
        "run",
        run_run,
        "run all jobs that are not finished, whole rows first",
        "run -j 2              two jobs at once, each on one thread",
        "run -j 2 --dry-run    print the plan and the workflow only",
        "run --preset paper -- --executor slurm --jobs 100",
    )
    run.add_argument("-j", "--jobs", type=positive, default=1, help="at once (default: 1)")
    run.add_argument("--dry-run", action="store_true", help="only print the plan and the workflow")
    run.add_argument("--remake", action="store_true", help="replace results of other settings")
    run.add_argument("snakemake", nargs="*", metavar="-- OPTIONS", help="for Snakemake")
    job = add(
        "job", run_one_job, "run one job, unless its result is there", "job sim-muff-32-s0/search"
    )
    job.add_argument("name", help="such as sim-muff-32-s0/search")
    job.add_argument("--processor", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    job.add_argument("--quiet", action="store_true", help="no progress bar")
    rtf = add(
        "rtf", run_rtf, "time all finished models, on a machine that does nothing else", "rtf"
    )
    rtf.add_argument("--quiet", action="store_true", help="no progress bar")
    add(
        "publish",
        run_publish,
        "write Table I as CSV and a manifest with checksums to the results",
        "publish",
    )
    status = add(
        "status", run_status, "show which jobs are done, running and waiting", "status --all"
    )
    status.add_argument("--all", action="store_true", help="list every job")
    table = add(
        "table",
        run_table,
        "print Table I, as far as it is finished",
        "table --csv",
        "table --units         what pruning whole units gives; not in the paper",
    )
    form = table.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="as comma-separated values")
    form.add_argument("--markdown", action="store_true", help="as in the README")
    table.add_argument(
        "--units", action="store_true", help="the second table: whole units pruned, not weights"
    )


def _places(args: argparse.Namespace) -> tuple[Path, Path]:
    results = args.results or data_folder() / "results" / args.preset
    return results.absolute(), (args.runs or Path("runs/study") / args.preset).absolute()


def _shop(args: argparse.Namespace) -> Workshop:
    from tinyamp.study import study_settings
    from tinyamp.study_bench import Workshop

    return Workshop(study_settings(args.preset), *_places(args), progress=args.progress)


def run_plan(args: argparse.Namespace) -> None:
    """Print jobs, their number and their time, rows in the order in which they run."""
    from tinyamp.data import is_whole
    from tinyamp.study import jobs_of
    from tinyamp.study_plan import amounts_of, duration, estimate, measure_cost
    from tinyamp.study_tables import state_of

    shop = _shop(args)
    study = shop.study
    amounts = amounts_of(study)
    costs = {size: measure_cost(size, study.retrain) for size in study.sizes}
    print(f"study {args.preset}: full training and retraining {study.retrain.epochs} epochs each")
    print("one core, timed just now; what is done is not counted\n")
    groups: dict[tuple, list] = {}
    for job in jobs_of(study):
        groups.setdefault((job.kind, job.row.size, job.row.seed, job.row.variant), []).append(job)
    total = 0.0
    print("job           units  seed  jobs  done   one takes   still to do")
    for (kind, size, seed, variant), jobs in groups.items():
        done = sum(state_of(job, shop) == "done" for job in jobs)
        seconds = estimate(jobs[0], study, costs, amounts)
        total += (left := (len(jobs) - done) * seconds)
        label = LABELS.get(variant, "")
        print(
            f"{kind:<12} {size:>6} {seed:>5} {len(jobs):>5} {done:>5} {duration(seconds):>11}"
            f"   {duration(left):>11}{label}"
        )
    absent = [device for device in study.devices if not is_whole(device, study.source)]
    if total and absent:
        command = "tinyamp data fetch" if study.source == "authors" else "tinyamp data make"
        print(f"\nrecordings that are not there yet: {', '.join(absent)} ({command})")
    print(f"\nstill to do: {duration(total)} on one core, {duration(total / 2)} on two")


def run_run(args: argparse.Namespace) -> None:
    """Run the workflow with Snakemake; only one at a time for each folder of runs."""
    from tinyamp.study import jobs_of
    from tinyamp.study_record import locked
    from tinyamp.study_tables import state_of

    if importlib.util.find_spec("snakemake") is None:
        raise InputError(
            "The study is a Snakemake workflow, and Snakemake is not installed: pip install "
            "'tinyamp[study]' (Python 3.11 or newer). One job runs without it: tinyamp study job."
        )
    shop = _shop(args)
    stale = [job for job in jobs_of(shop.study) if state_of(job, shop) == "stale"]
    if stale and not args.remake:
        raise InputError(
            f"{len(stale)} results in {shop.results} were made with other settings "
            f"({stale[0].name} is one); keep them apart with --results, or replace them "
            "with --remake."
        )
    if args.dry_run:
        run_plan(args)
    else:
        for job in stale:
            (shop.results / job.file).unlink()
    with locked(shop.runs / "locks" / "study.lock", wait=False) as held:
        if not held:
            raise InputError(f"This study is running already, with its checkpoints in {shop.runs}.")
        code = _snakemake(snakemake_command(args))
    if code:
        raise InputError(
            "Not all jobs could be finished; the messages above say why. The same command goes on."
        )


def snakemake_command(args: argparse.Namespace) -> list[str]:
    """The command line of Snakemake for `tinyamp study run`."""
    package = Path(__file__).resolve().parent
    files = (package.parents[1] / "Snakefile", package / "_data" / "Snakefile")
    results, runs = _places(args)
    command = [sys.executable, "-m", "snakemake", "--snakefile"]
    command += [str(next((file for file in files if file.is_file()), files[0]))]
    command += ["--directory", str(runs), "--cores", str(args.jobs), "--nolock"]
    command += ["--rerun-incomplete", "--rerun-triggers", "input", "--keep-going"]
    command += ["--scheduler", "greedy", "--quiet", "rules"]
    command += ["--dry-run"] * args.dry_run
    command += ["--config", f"preset={args.preset}", f"results={results}", f"runs={runs}"]
    return [*command, *args.snakemake]


def _snakemake(command: list[str]) -> int:
    """Run Snakemake in a group of its own, so that stopping stops its jobs as well."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(command, start_new_session=True, env=environment)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def run_one_job(args: argparse.Namespace) -> None:
    """Run one job, and say where its result is."""
    from dataclasses import replace

    from tinyamp.study import find_job, jobs_of
    from tinyamp.study_jobs import run_job
    from tinyamp.train import pick_device

    shop = _shop(args)
    job = find_job(jobs_of(shop.study), args.name)
    device = pick_device(None if args.processor == "auto" else args.processor)
    run_job(job, replace(shop, device=device.type))
    print(f"{job.name}: {shop.results / job.file}")


def run_rtf(args: argparse.Namespace) -> None:
    """Time all finished models side by side, and print the table with their speeds."""
    from tinyamp import study_tables
    from tinyamp.study_speed import measure_speed

    shop = _shop(args)
    measure_speed(shop)
    study_tables.demand_one_data_set(shop)
    _print_table(study_tables.table_rows(shop))
    print("\nWhole units pruned:")
    _print_table(study_tables.unit_rows(shop))


def run_publish(args: argparse.Namespace) -> None:
    """Write what ships beside the results."""
    from tinyamp.study_tables import publish

    shop = _shop(args)
    print(f"{publish(shop)} files are listed in {shop.results / 'manifest.json'}")


def run_status(args: argparse.Namespace) -> None:
    """Print one line a row, or a job with --all."""
    from tinyamp.study_tables import STATES, progress_of, state_of, study_jobs

    shop = _shop(args)
    rows = study_jobs(shop.study)
    states = {job: state_of(job, shop) for jobs in rows.values() for job in jobs}
    for row, jobs in rows.items():
        for job in jobs if args.all else ():
            print(f"{job.name:<40} {states[job]}")
        if not args.all:
            print(f"{row.name:<30} " + ", ".join(f"{job.kind} {states[job]}" for job in jobs))
    print()
    for job, state in states.items():
        if state == "running":
            print(f"running: {job.name}  {progress_of(job, shop)}")
    counts = {state: sum(s == state for s in states.values()) for state in STATES}
    print(", ".join(f"{count} {state}" for state, count in counts.items() if count))


def run_table(args: argparse.Namespace) -> None:
    """Print Table I, or the table of whole units."""
    from tinyamp import study_tables

    shop = _shop(args)
    study_tables.demand_one_data_set(shop)
    rows = study_tables.unit_rows(shop) if args.units else study_tables.table_rows(shop)
    if args.csv:
        print(study_tables.table_csv(rows), end="")
        return
    if args.markdown:
        print("\n".join(study_tables.markdown_table(rows)))
        return
    _print_table(rows)


def _print_table(rows: Sequence[TableRow]) -> None:
    """Print the lines of a table, and how many of its rows are not finished."""
    from tinyamp.study_tables import format_table

    print("\n".join(format_table(rows)))
    if left := sum(not row.finished for row in rows):
        print(f"\n{left} of {len(rows)} rows are not finished; `tinyamp study status` says more.")
