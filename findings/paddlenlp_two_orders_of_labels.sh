#!/usr/bin/env bash
# Label 0 of OCNLI and CMNLI means different classes in the two CLUE loaders of PaddleNLP 3.0.0b4.
#
# Expected: one library gives a label the same index in all of its loaders.
# Happens: paddlenlp.datasets.load_dataset("clue", "ocnli") counts entailment, contradiction, neutral. The script for
#   Hugging Face's `datasets` in the same package, datasets/hf_datasets/clue.py, counts neutral, entailment,
#   contradiction, for OCNLI and CMNLI alike; load_dataset counts contradiction, entailment, neutral for CMNLI.
# Matters: a checkpoint that was fine-tuned with one loader and is evaluated with the other confuses the classes without a
#   message: both loaders have three classes, and indices have no names.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 datasets==3.6.0 aistudio-sdk==0.2.6 pyarrow==19.0.1 "numpy<2" "setuptools<80" 2>/dev/null
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" "$folder/venv/bin/python" - 2>/dev/null <<'PY'
from importlib.metadata import version
from pathlib import Path

import datasets
import paddlenlp
from paddlenlp.datasets.clue import Clue

print("paddlenlp", version("paddlenlp"), "datasets", version("datasets"))
script = str(Path(paddlenlp.__file__).parent / "datasets" / "hf_datasets" / "clue.py")
found = {}
for task in ("cmnli", "ocnli"):
    own = Clue(lazy=False, name=task).get_labels()
    other = datasets.load_dataset_builder(script, task, trust_remote_code=True).info.features["label"].names
    found[task] = own, other
    print(f"{task}: load_dataset counts {own}, the script for `datasets` {other}")
assert found["ocnli"] == (["entailment", "contradiction", "neutral"], ["neutral", "entailment", "contradiction"])
assert found["cmnli"] == (["contradiction", "entailment", "neutral"], ["neutral", "entailment", "contradiction"])
PY
