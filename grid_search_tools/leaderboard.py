"""Models side by side: the best dev score of every task, and their mean, for all models under a run root.

    python leaderboard.py runs/ --published

--published adds the 27 models of PaddleNLP's CLUE Benchmark document, whose scores were not measured by this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluebench import command
from cluebench.errors import UsageError
from cluebench.flags import flag, parse
from cluebench.published import ATTRIBUTION
from cluebench.report.leaderboard import measured_rows, ordered, published_rows, rendered
from cluebench.repository import RUN_ROOT

NAME = "leaderboard.py"


@dataclass
class Flags:
    __doc__ = __doc__

    run_roots: list[str] = flag([], "directories of runs, one folder a model in each", positional=True)
    format: str = flag("text", "how to print it", choices=("text", "markdown", "csv", "html"))
    published: bool = flag(False, f"add the models whose scores were {ATTRIBUTION}")


def main() -> None:
    flags = parse(Flags, prog=NAME)
    run_roots = flags.run_roots or [str(RUN_ROOT)]
    rows = []
    for root in run_roots:
        if not Path(root).expanduser().is_dir():
            raise UsageError(f"{root} is not a directory: name the one that holds a folder a model, such as runs/")
        rows += measured_rows(Path(root).expanduser())
    rows += published_rows() if flags.published else []
    if not rows:
        raise UsageError("no finished trial in " + ", ".join(run_roots))
    print(rendered(ordered(rows), flags.format), end="")


if __name__ == "__main__":
    command.run(main, NAME)
