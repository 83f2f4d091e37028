"""Ranks all models under a run root by the mean of their best dev scores.

    python leaderboard.py runs/ --published
    python leaderboard.py runs/ --published --format html      # a page to sort and filter: runs/index.html

The ranking contains runs of the whole published grid, with the published protocol, on the official files. Other runs
follow it, with the reasons.
"""

from dataclasses import dataclass
from pathlib import Path

from cluebench.benchmark.published import ATTRIBUTION
from cluebench.foundation import atomic, command
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import flag, parse
from cluebench.foundation.repository import RUN_ROOT
from cluebench.report.leaderboard import FORMATS, ORDERS, Leaderboard, measured_rows, published_rows, rendered
from cluebench.report.run import holds_tasks


@dataclass
class Flags:
    __doc__ = __doc__

    run_roots: list[str] = flag([], "directories with a folder for each model", positional=True)
    format: str = flag("text", "how to print it; html: writes index.html in the first directory", choices=FORMATS)
    published: bool = flag(False, f"add the models whose scores were {ATTRIBUTION}")
    baseline: str | None = flag(None, "a model, or published:NAME: print the difference of the others to it")
    all_runs: bool = flag(False, "also rank incomplete runs and runs with other data or protocols")
    without_twins: bool = flag(False, "scores without dev rows whose text is also in train")
    sort: str = flag("average", "order of the rows; the ranks do not change", choices=ORDERS)


def main() -> None:
    flags = parse(Flags)
    run_roots = [Path(root).expanduser() for root in flags.run_roots or [str(RUN_ROOT)]]
    if flags.without_twins and flags.published:
        raise UsageError("--without_twins needs dev predictions, and published scores have none: leave out --published")
    rows = []
    for root in run_roots:
        if not root.is_dir():
            raise UsageError(f"no directory {root}: name the run root of grid_search.py")
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
    command.run(main, "leaderboard.py")
