import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import trial  # noqa: E402

trial.main("cmrc2018")
