"""The report of a grid: how large it is, how long it takes to write, and when a browser first shows it.

    python benchmarks/report_page.py

Of made-up runs with as many dev rows as the official ones: 134 trials, and 1,072 (eight seeds). Claims: under 6 and
under 15 MB; first paint within a second of opening the file, in Debian's chromium, where there is one.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as every command does

from cluebench.foundation import repository  # noqa: E402
from cluebench.records.grid_file import REPORT_FILE  # noqa: E402
from cluebench.report.grid_page import write_report  # noqa: E402

MOST_MB, MOST_SECONDS = {1: 6, 8: 15}, 1.0


def first_paint(page: Path, program: str) -> float:
    """Seconds from opening the page to its first content, in a browser that runs already."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1400, "height": 900})
        shown.goto(page.as_uri())
        shown.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        return shown.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000


def main() -> int:
    passed, program = True, shutil.which("chromium")
    for seeds, most in MOST_MB.items():
        with tempfile.TemporaryDirectory() as root:
            maker = [sys.executable, "-m", "tests.made_up_runs", root, "--seeds", str(seeds)]
            subprocess.run(maker, cwd=repository.ROOT, check=True)
            folder, began = Path(root) / "model-0", time.process_time()
            write_report(folder)
            wrote, size = time.process_time() - began, (folder / REPORT_FILE).stat().st_size / 1e6
            painted = first_paint(folder / REPORT_FILE, program) if program else None
        shown = "no browser" if painted is None else f"first paint after {painted:.2f} s"
        print(f"ratio: {size / most:.2f} of {most} MB ({134 * seeds} trials, written in {wrote:.1f} CPU s, {shown})")
        passed = passed and size < most and (painted or 0) <= MOST_SECONDS
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
