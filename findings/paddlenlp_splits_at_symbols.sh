#!/usr/bin/env bash
# With one vocab.txt, PaddleNLP's BertTokenizer makes other tokens at ℃, × and ｜ than the original and transformers.
#
# Expected: a WordPiece vocabulary gives the same ids in both libraries, so converted weights see the tokens of pretraining.
# Happens: BERT's tokenizer splits a word at punctuation, and mathematical signs are symbols in Unicode, not punctuation.
#   PaddleNLP 3.0.0b4 splits at these symbols as well. transformers 4.57.6 and 5.24.0 keep "25℃" as one word: 25 ##℃.
# Matters: measures, products and table lines are common in Chinese news and encyclopedias. If "##℃" is not in the vocabulary,
#   transformers gives one [UNK] for the number and its sign, and PaddleNLP two tokens. No message says that ids differ.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n今\n天\n度\n25\n3\n4\n℃\n##℃\n×\n##×\n##4\n｜\n' > "$folder/vocab.txt"
cat > "$folder/tokens.py" <<'PY'
import json, sys
from importlib import import_module
from importlib.metadata import version

library, package, folder = sys.argv[1:]
tokenizer = import_module(library).BertTokenizer(f"{folder}/vocab.txt")
found = [tokenizer.tokenize(text) for text in ("今天25℃", "3×4", "今天｜25度")]
print(package, version(package), json.dumps(found, ensure_ascii=False))
split = [["今", "天", "25", "℃"], ["3", "×", "4"], ["今", "天", "｜", "25", "度"]]
whole = [["今", "天", "25", "##℃"], ["3", "##×", "##4"], ["今", "天", "[UNK]", "度"]]
assert found == (split if package == "paddlenlp" else whole)
PY
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" "$folder/tokens.py" paddlenlp.transformers paddlenlp "$folder" 2>/dev/null
python3 -m venv "$folder/other"
for version in 4.57.6 5.24.0; do
  "$folder/other/bin/pip" install -q "transformers==$version" 2>/dev/null
  "$folder/other/bin/python" "$folder/tokens.py" transformers transformers "$folder" 2>/dev/null
done
