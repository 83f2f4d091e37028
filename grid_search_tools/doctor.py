"""Prints what this machine has, what is wrong with it, and for each fault the command that repairs it.

    python grid_search_tools/doctor.py [MODEL …]

With models (names or directories) it also prints which tasks they can do. It changes and downloads nothing.
The exit code is 0 if nothing is wrong, and 1 otherwise.
"""

from dataclasses import dataclass

from cluebench.diagnosis.doctor import Doctor
from cluebench.foundation import command, repository
from cluebench.foundation.flags import cache_dir_flag, data_dir_flag, flag, parse, run_root_flag


@dataclass
class DoctorFlags:
    __doc__ = __doc__

    models: list[str] = flag([], "model names or directories to try", positional=True)
    data_dir: str | None = data_dir_flag()
    cache_dir: str | None = cache_dir_flag()
    run_root: str = run_root_flag()


def main() -> int:
    flags = parse(DoctorFlags)
    doctor = Doctor(repository.ROOT)
    doctor.examine(flags.models, flags.data_dir, flags.cache_dir, flags.run_root)
    print(doctor.report())
    return 1 if doctor.problems else 0


if __name__ == "__main__":
    command.run(main, "doctor.py")
