"""Prints the best score of every task and the hyper-parameters behind it.

    bash extract_result.sh ernie-3.0-base-zh

Reads result JSONs, and logs in the published tool's layout (<directory>/<task>/<lr>_<batch>_<dropout>.log). The table
goes to stdout; what is worth knowing beside it goes to stderr.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from cluebench.benchmark.published import ATTRIBUTION
from cluebench.foundation import command
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import flag, parse
from cluebench.foundation.repository import RUN_ROOT
from cluebench.records.finished_trials import OpenedRun
from cluebench.report.grid_page import REPORT_FILE, write_report
from cluebench.report.table import print_table, run_directory

NAME = "extract_result.sh"


@dataclass
class Flags:
    """Prints the best-score table of a model, or of each of several."""

    models: list[str] = flag([], "model names or run directories", positional=True)
    run_root: str = flag(
        str(RUN_ROOT), "directory of the runs, one folder a model", default_text="runs/ in the repository"
    )
    published: bool = flag(
        False, f"also print the scores {ATTRIBUTION}, and the difference to them (yours minus published)"
    )
    stderr: bool = flag(False, "also print one standard error of each score, from the dev predictions of its trial")
    without_twins: bool = flag(
        False, "also print the scores on the dev rows whose text is not in train, from the dev predictions of a trial"
    )
    budget: int | None = flag(
        None, "also print the best score to expect of so many trials, to compare models at equal budget", minimum=1
    )
    report: bool = flag(False, f"also write {REPORT_FILE} into the directory, a page to look into")


def main() -> None:
    flags = parse(Flags, prog=NAME)
    if not flags.models:
        raise UsageError("name a model or a run directory")
    for model in flags.models:
        run = OpenedRun(run_directory(model, flags.run_root))
        print_table(
            run, model, among_others=len(flags.models) > 1,
            published=flags.published, stderr=flags.stderr, without_twins=flags.without_twins, budget=flags.budget,
        )  # fmt: skip
        if flags.report:
            write_report(run.folder)
            print(f"report: {run.folder / REPORT_FILE}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main, NAME)
