"""Seconds that the leaderboard takes for 30 models with a whole grid each, ranks and errors included.

    python benchmarks/leaderboard_seconds.py [models]

Trials are made up, as many as in official runs, with their dev rows and curves. Claim: under 5 seconds on one core.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from spending import run

from cluebench.foundation import repository

MOST_SECONDS = 5.0


def main() -> int:
    models = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as root:
        maker = [sys.executable, "-m", "tests.made_up_runs", root, "--models", str(models)]
        subprocess.run(maker, cwd=repository.ROOT, check=True)
        size = sum(path.stat().st_size for path in Path(root).rglob("*.predictions"))
        command = [sys.executable, str(repository.ROOT / "grid_search_tools" / "leaderboard.py"), root, "--published"]
        table, _, seconds = run(command)
    ranks = len({line.split()[0] for line in table.splitlines() if "model-" in line})
    print(f"{models} models, predictions of a grid {size / models / 1e6:.2f} MB, {ranks} ranks")
    print(f"ratio: {seconds / MOST_SECONDS:.2f} of the {MOST_SECONDS} s claimed ({seconds:.1f} CPU s)")
    return 0 if seconds <= MOST_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
