"""Says what there is on this machine, what is wrong with it, and the command that mends each fault.

    python grid_search_tools/doctor.py [MODEL …]

With models (names or directories), also which tasks they can do. Nothing is changed and nothing is fetched.
Exits 0 when nothing is wrong, else 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluebench.diagnosis.checks import findings
from cluebench.diagnosis.facts import gather
from cluebench.diagnosis.report import report
from cluebench.foundation import command, repository
from cluebench.foundation.flags import flag, parse

NAME = "doctor.py"


@dataclass
class DoctorFlags:
    __doc__ = __doc__

    models: list[str] = flag([], "model names or directories to try", positional=True)
    data_dir: str | None = flag(None, "official CLUE files", default_text="CLUE_DATA_DIR, else they are downloaded")
    cache_dir: str | None = flag(None, "where token ids are kept between runs", default_text="~/.cache/cluebench")
    run_root: str = flag(str(repository.RUN_ROOT), "directory of the runs", default_text="runs/")


def main() -> int:
    flags = parse(DoctorFlags, prog=NAME)
    facts = gather(repository.ROOT, flags.models, flags.data_dir, flags.cache_dir, flags.run_root)
    found = findings(facts)
    print(report(facts, found))
    return 1 if found else 0


if __name__ == "__main__":
    command.run(main, NAME)
