"""Prints what is in the data: rows, dev and test rows that are also in train, groups, and scores without reading.

    python inspect_data.py --tasks tnews,c3 --data_dir DIR

All ten tasks take less than a minute on one core. docs/data.md explains the columns.
"""

import sys
from dataclasses import dataclass

from cluebench.benchmark.tasks import tasks_named
from cluebench.data import inspection
from cluebench.data.source import open_source
from cluebench.foundation import command
from cluebench.foundation.errors import DataError
from cluebench.foundation.flags import data_dir_flag, flag, parse
from cluebench.foundation.notices import notice, waiting


@dataclass
class Flags:
    __doc__ = __doc__

    tasks: list[str] = flag([], "tasks to inspect", default_text="all that are in the data")
    data_dir: str | None = data_dir_flag("CLUE_DATA_DIR")
    format: str = flag("text", "how to print the result", choices=inspection.FORMATS)


def main() -> None:
    flags = parse(Flags)
    tasks, source, found = tasks_named(flags.tasks), open_source(flags.data_dir, offline=True), []
    for task in tasks:
        if not flags.tasks and not all(source.has(task, file) for file in (*task.train_files, *task.dev_files)):
            notice(f"{task.title} is left out: its train and dev files are not in {source.directory}")
            continue
        with waiting(f"reading {task.title}"):
            found.append(inspection.inspect(source, task))
    if not found:
        raise DataError(f"{source.directory} has no task's train and dev files; name another directory with --data_dir")
    sys.stdout.write(inspection.rendered(found, flags.format))


if __name__ == "__main__":
    command.run(main, "inspect_data.py")
