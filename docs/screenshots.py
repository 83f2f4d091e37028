"""Takes the pictures of the READMEs from made-up runs, whose scores nobody has measured.

    python docs/screenshots.py

writes report.png, report_zh.png and leaderboard.png beside itself, with Debian's chromium.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        maker = [sys.executable, "-m", "tests.made_up_runs", str(runs), "--models", "4"]
        subprocess.run(maker, cwd=ROOT, check=True)
        board = [sys.executable, str(ROOT / "grid_search_tools" / "leaderboard.py"), str(runs), "--published"]
        board += ["--baseline", "ernie-3.0-base-zh"]
        subprocess.run([*board, "--format", "html"], check=True, stdout=subprocess.DEVNULL)
        from cluebench.records.grid_file import REPORT_FILE
        from cluebench.report.grid_page import write_report

        report = runs / "model-0"
        write_report(report)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for page, name, height, language in (
                (report / REPORT_FILE, "report.png", 1400, "en-US"),
                (report / REPORT_FILE, "report_zh.png", 1400, "zh-CN"),
                (runs / "index.html", "leaderboard.png", 640, "en-US"),
            ):
                shown = browser.new_page(viewport={"width": 1400, "height": height}, locale=language)
                shown.goto(page.as_uri())
                shown.wait_for_timeout(4000)  # charts are drawn one after the other
                shown.screenshot(path=Path(folder) / name)
                picture = Image.open(Path(folder) / name).convert("RGB")
                picture.quantize(200, dither=Image.Dither.NONE).save(Path(__file__).with_name(name), optimize=True)


if __name__ == "__main__":
    main()
