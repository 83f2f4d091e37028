import json
import sys
from pathlib import Path

data = Path(sys.argv[sys.argv.index("--data_dir") + 1])
with open(data / "warmup.txt", "a") as stream:
    stream.write(json.dumps(sys.argv[1:]) + "\n")
if (data / "no-warmup").exists():
    print("error: no network", file=sys.stderr)
    sys.exit(5)
