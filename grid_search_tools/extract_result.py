"""Prints the best score of every task and its hyper-parameters.

    bash extract_result.sh ernie-3.0-base-zh

Reads results and logs of the published tool (<directory>/<task>/<lr>_<batch>_<dropout>.log). The table goes to stdout,
notes about it go to stderr.
"""

import sys
from dataclasses import dataclass

from cluebench.foundation import command
from cluebench.foundation.flags import flag, parse, run_root_flag
from cluebench.records.grid_file import REPORT_FILE
from cluebench.report.grid_page import write_report
from cluebench.report.run import Run, run_directory
from cluebench.report.table import Additions, print_table


@dataclass
class Flags(Additions):
    __doc__ = __doc__

    models: list[str] = flag(..., "model names or run directories", positional=True)
    run_root: str = run_root_flag()
    report: bool = flag(False, f"also write the page {REPORT_FILE} into the directory")


def main() -> None:
    flags = parse(Flags)
    for model in flags.models:
        run = Run(run_directory(model, flags.run_root))
        print_table(run, model, flags, among_others=len(flags.models) > 1)
        if flags.report:
            write_report(run.folder, run)
            print(f"report: {run.folder / REPORT_FILE}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main, "extract_result.sh")
