#!/usr/bin/env bash
# Read by pyarrow, every row of a CLUENER file gets the names of all rows.
#
# Expected: a row {"label": {"address": {"北京": [[2, 3]]}}} is read as it stands in the file.
# Happens: an object becomes a struct whose keys are the keys of all rows; a row has null at every key that it
#   doesn't have. pyarrow 19.0.1 and 26.0.1 do so, and datasets 3.6.0, the newest that PaddleNLP 3.0.0b4 works with.
# Matters: CLUENER's keys are the entities' texts. `for name in row["label"]["address"]` yields the addresses of the whole file, with
#   None as spans, and a file of 10,000 rows has thousands of columns. Split the keys from the values first, or use json.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/train.json" <<'JSON'
{"text": "浙商银行企业信贷部叶老桂博士", "label": {"name": {"叶老桂": [[9, 11]]}, "company": {"浙商银行": [[0, 3]]}}}
{"text": "他在北京的网易工作", "label": {"address": {"北京": [[2, 3]]}, "company": {"网易": [[5, 6]]}}}
{"text": "今天天气很好", "label": {}}
JSON
cat > "$folder/read.py" <<'PY'
import json, sys
from importlib.metadata import version

import pyarrow
import pyarrow.json

folder = sys.argv[1]
expected = [json.loads(line) for line in open(f"{folder}/train.json", encoding="utf-8")]
readers = {"pyarrow": pyarrow.json.read_json(f"{folder}/train.json").to_pylist()}
if len(sys.argv) > 2:
    import datasets

    readers["datasets"] = list(datasets.load_dataset("json", data_files=f"{folder}/train.json", cache_dir=f"{folder}/cache")["train"])
for name, rows in readers.items():
    print(name, version(name), "row 2:", json.dumps(rows[1]["label"], ensure_ascii=False, sort_keys=True))
    assert expected[1]["label"]["company"] == {"网易": [[5, 6]]}
    assert rows[1]["label"]["company"] == {"浙商银行": None, "网易": [[5, 6]]} and rows[1]["label"]["name"] is None
    assert rows[2]["label"] == {"name": None, "company": None, "address": None} and expected[2]["label"] == {}
PY
"$folder/venv/bin/pip" install -q datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" 2>/dev/null
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" "$folder/venv/bin/python" "$folder/read.py" "$folder" datasets 2>/dev/null
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 numpy==2.4.6 2>/dev/null
"$folder/venv/bin/python" "$folder/read.py" "$folder"
