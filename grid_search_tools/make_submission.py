"""Makes the zip to upload to the CLUE leaderboard.

    python make_submission.py runs/ernie-3.0-base-zh --output submit.zip

Makes missing predictions with the best kept model of each task, checks every file against its test set, and packs them.
You can also give a directory of prediction files. Missing tasks are named. If a file is invalid, the command prints
every defect and writes no zip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluebench.benchmark.tasks import TASKS
from cluebench.data.source import open_source
from cluebench.foundation import command
from cluebench.foundation.flags import cache_dir_flag, data_dir_flag, flag, offline_flag, parse, refuse_unwritable
from cluebench.foundation.notices import notice, waiting
from cluebench.foundation.repository import RUN_ROOT
from cluebench.records.finished_trials import OpenedRun
from cluebench.report import comparability, submitted
from cluebench.report.advice import changed
from cluebench.submission import kept, packing


@dataclass
class Flags:
    __doc__ = __doc__

    directory: str = flag(..., "run directory or name of a model, or directory of prediction files", positional=True)
    output: str = flag("submit.zip", "the zip to write", writes="file")
    data_dir: str | None = data_dir_flag("what the grid search used, else CLUE_DATA_DIR, else they are downloaded")
    version: str = flag("1.1", "version of the leaderboard; all: the files of both", choices=("1.1", "1.0", "all"))
    tasks: list[str] = flag([], "tasks to pack", default_text="all that are there")
    device: str | None = flag(None, "device to predict on", default_text="gpu if Paddle has one, else cpu")
    cache_dir: str | None = cache_dir_flag()
    name: str | None = flag(None, "the model's name on the leaderboard", default_text="the directory's name")
    score: list[str] = flag(
        [], "pack nothing; record scores that the leaderboard gave the zip: TNEWS=58.12", metavar="TASK=SCORE"
    )
    offline: bool = offline_flag()


def main() -> None:
    flags = parse(Flags)
    folder, output = Path(flags.directory).expanduser(), Path(flags.output).expanduser()
    named = RUN_ROOT / flags.directory.replace("/", "--")
    folder = named if named.is_dir() and not folder.is_dir() else folder
    refuse_unwritable(flags)
    wanted = packing.wanted_entries(flags.tasks, flags.version)
    run = packing.run_directory(folder)
    if flags.score:
        entered = submitted.enter(output, run, flags.score)
        recorded = ", ".join(f"{TASKS[name].title} {score:.2f}" for name, score in entered.test.items())
        print(f"{submitted.beside(output)}: {recorded}")
        return
    opened = OpenedRun(run) if run else None
    data_dir = flags.data_dir or (opened.grid.data_dir if opened and opened.grid else None)
    source = open_source(data_dir, offline=flags.offline)
    diagnosed = kept.diagnostics_entry(wanted, source)
    entries, misnamed = wanted + diagnosed, []
    if opened:
        kept.take_models(
            opened, entries, source, kept.PredictionFlags(data_dir, flags.device, flags.cache_dir, flags.offline)
        )
    else:
        misnamed = packing.take_predictions(folder, entries)
    for entry in entries:
        with waiting(f"checking {entry.test.submission}"):
            packing.check(entry, source)
    packing.report(entries, misnamed)
    if opened:
        _warn(opened, entries)
    for entry in diagnosed:
        if entry.state == "ok":
            print(*kept.shares_right(entry.content, source), sep="\n")
    packing.pack(entries, misnamed, output)
    if opened and opened.halving_mark:
        print(f"({opened.halving_mark})")
    packed = [entry.test.submission for entry in entries if entry.state == "ok"]
    for warning in submitted.remember(output, run, flags.name or folder.resolve().name, packed):
        notice(warning)


def _warn(run: OpenedRun, entries: Sequence[packing.Entry]) -> None:
    """Prints how to keep missing models, and which models were not trained as published."""
    if any(entry.note == kept.NOT_KEPT for entry in entries):
        typed = run.grid.command if run.grid else []
        typed = typed or ["grid_search_tools/grid_search.py", run.folder.name.replace("--", "/")]
        print(f"to keep the best models: {changed(typed, save_best_model='True')}")
    packed = {entry.task.name for entry in entries if entry.state == "ok"}
    trials = {name: of_task for name, of_task in run.trials.items() if name in packed}
    if unlike := comparability.protocol_marks(trials):
        what = "; ".join(mark.text(len(packed)) for mark in unlike)
        print(f"warning: not trained as the published models: {what}")


if __name__ == "__main__":
    command.run(main, "make_submission.py")
