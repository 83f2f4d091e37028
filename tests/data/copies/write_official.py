"""Writes official.zip: made-up rows of every task in the official files, from which write_copies.py makes the copies.

python tests/data/copies/write_official.py
"""

import tempfile
import zipfile
from pathlib import Path

from cluebench.benchmark.tasks import TASKS
from cluebench.demo.synthetic import Sizes, write_synthetic


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(folder, TASKS, {name: Sizes(24, 12, 6) for name in TASKS})
        with zipfile.ZipFile(Path(__file__).with_name("official.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).glob("*/*")):
                archive.write(path, path.relative_to(folder))


if __name__ == "__main__":
    main()
