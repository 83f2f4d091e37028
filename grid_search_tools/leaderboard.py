"""Models side by side: the best dev score of every task, and their mean, for all models under a run root.

    python leaderboard.py runs/ --published
    python leaderboard.py runs/ --published --format html      # a page to sort and filter: runs/index.html

--published adds the 27 models of PaddleNLP's CLUE Benchmark document, whose scores were not measured by this project.
Only runs of the whole published grid, as published and on the official files, are in the ranking; the others follow it,
and what sets them apart stands below.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluebench.benchmark.published import ATTRIBUTION
from cluebench.foundation import atomic, command
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import flag, parse
from cluebench.foundation.repository import RUN_ROOT
from cluebench.report.leaderboard import ORDERS, Leaderboard, measured_rows, published_rows
from cluebench.report.leaderboard_formats import FORMATS, rendered
from cluebench.report.table import holds_tasks

NAME = "leaderboard.py"


@dataclass
class Flags:
    __doc__ = __doc__

    run_roots: list[str] = flag([], "directories of runs, one folder a model in each", positional=True)
    format: str = flag("text", "how to print it; html: a page, index.html in the first directory", choices=FORMATS)
    published: bool = flag(False, f"add the models whose scores were {ATTRIBUTION}")
    baseline: str | None = flag(None, "a model, or published:NAME: every other one's difference from it is shown")
    all_runs: bool = flag(False, "rank runs of other data or protocols too, and those that lack trials")
    without_twins: bool = flag(
        False, "score the dev rows whose text is not in train, from the dev predictions of trials"
    )
    sort: str = flag("average", "order of the rows; ranks are always by average", choices=ORDERS)


def main() -> None:
    flags = parse(Flags, prog=NAME)
    run_roots = [Path(root).expanduser() for root in flags.run_roots or [str(RUN_ROOT)]]
    if flags.without_twins and flags.published:
        raise UsageError(
            "--without_twins needs dev predictions, which published scores have not: leave out --published"
        )
    rows = []
    for root in run_roots:
        if not root.is_dir():
            raise UsageError(
                f"no directory {root}: name the one in which grid_search.py has left a folder for each model"
            )
        if holds_tasks(root):
            raise UsageError(f"{root} is the run directory of one model: give the directory it is in, {root.parent}")
        rows += measured_rows(root, flags.without_twins)
    rows += published_rows() if flags.published else []
    if not rows:
        raise UsageError("no finished trial in " + ", ".join(map(str, run_roots)))
    board = Leaderboard.of(rows, flags.baseline, flags.all_runs, flags.sort, flags.without_twins)
    if flags.format != "html":
        print(rendered(board, flags.format), end="")
        return
    page = run_roots[0] / "index.html"
    with atomic.replacing(page) as temporary:
        temporary.write_text(rendered(board, "html", page.parent), encoding="utf-8")
    print(page.resolve())


if __name__ == "__main__":
    command.run(main, NAME)
