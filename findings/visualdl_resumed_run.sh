#!/usr/bin/env bash
# VisualDL shows half a curve of a run that was continued into the same directory.
#
# Expected: a continued run writes into the same --logdir, and VisualDL shows the whole curve, as TensorBoard does with
#   several event files in one directory.
# Happens: LogWriter opens a new file each time, and VisualDL 2.5.3 reads only the file whose name sorts last. The points
#   before the restart are on the disk, but no reader shows them. A second run in the directory hides the first one.
# Matters: after every resumed training the curve begins at the checkpoint. To keep it whole, copy the earlier points
#   into the new file, or give LogWriter the name of the existing file.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q visualdl==2.5.3 "numpy<2" "protobuf==5.29.6" six==1.17.0 "setuptools<80" 2>/dev/null
cat > "$folder/write.py" <<'PY'
import sys
from visualdl import LogWriter

writer = LogWriter(sys.argv[1])
for step in range(int(sys.argv[2]), int(sys.argv[3])):
    writer.add_scalar(tag="train/loss", value=1 / (step + 1), step=step)
writer.close()
PY
"$folder/venv/bin/python" "$folder/write.py" "$folder/run" 0 10
sleep 1.1
"$folder/venv/bin/python" "$folder/write.py" "$folder/run" 10 15
"$folder/venv/bin/python" - "$folder/run" <<'PY'
import os
import sys
from importlib import metadata

from visualdl import LogReader

files = sorted(os.listdir(sys.argv[1]))
reader = LogReader(logdir=sys.argv[1])
shown = reader.logs()
steps = [point.id for point in LogReader(file_path=os.path.join(sys.argv[1], shown[sys.argv[1]])).get_data("scalar", "train/loss")]
print(f"visualdl {metadata.version('visualdl')}: {len(files)} files written, shown: {shown[sys.argv[1]]}, steps {steps}")
assert len(files) == 2 and shown == {sys.argv[1]: files[-1]} and steps == list(range(10, 15))
PY
