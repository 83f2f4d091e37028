"""Fine-tunes models over the CLUE tasks and their hyper-parameter grids, and prints the table of best scores.

    python grid_search.py ernie-3.0-base-zh

Runs as many trials at once as there are devices, the longest first. You can stop it at any time: the same command
continues and does not repeat finished trials.
"""

from dataclasses import dataclass

from cluebench.foundation import command
from cluebench.foundation.flags import parse, refuse_unwritable
from cluebench.scheduler.plan.grid_flags import GROUPS, GridFlags, completed
from cluebench.scheduler.run.display import print_status
from cluebench.scheduler.run.forecast import print_plan
from cluebench.scheduler.run.planned_grid import PlannedGrid


@dataclass
class Flags(GridFlags):
    __doc__ = __doc__


def main() -> int:
    flags = parse(Flags, groups=GROUPS)
    if not (flags.status or flags.dry_run):
        refuse_unwritable(flags)
    flags = completed(flags)
    grid = PlannedGrid.of(flags)
    if flags.status:
        print_status(grid.directories.values(), flags)
        return 0
    for directory in grid.directories.values():
        directory.refuse_other_model()
    if flags.dry_run and not flags.conclude:
        print_plan(grid)
        return 0
    from cluebench.scheduler.run import run_grid

    return run_grid.conclude(grid) if flags.conclude else run_grid.run(grid)


if __name__ == "__main__":
    command.run(main, "grid_search.py")
