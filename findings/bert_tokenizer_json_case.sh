#!/usr/bin/env bash
# A cased BERT tokenizer.json is read as a lower-casing one.
#
# Expected: tokenizer.json contains the whole tokenizer with its normalizer. So a directory with only tokenizer.json
#   tokenises as the file says: with "lowercase": false it keeps capitals and accents.
# Happens: transformers 4.57.6 and 5.24.0 build BertTokenizer's normalizer again from tokenizer_config.json. If this file
#   or its key do_lower_case is missing, the class's default counts, and the text is lower-cased without a message.
#   The tokenizers library itself keeps the capitals.
# Matters: people copy only tokenizer.json. Texts with Latin letters then get other token ids than in pretraining.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 4.57.6 5.24.0; do
  "$folder/venv/bin/pip" install -q "transformers==$version" 2>/dev/null
  "$folder/venv/bin/python" - "$folder/model-$version" <<'PY'
import json, os, sys
import tokenizers, transformers
from tokenizers import models, normalizers, pre_tokenizers

folder = sys.argv[1]
os.makedirs(folder)
vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "B", "b", "C", "c"]
made = tokenizers.Tokenizer(models.WordPiece({token: row for row, token in enumerate(vocabulary)}, unk_token="[UNK]"))
made.normalizer = normalizers.BertNormalizer(lowercase=False)
made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
made.save(f"{folder}/tokenizer.json")
json.dump({"model_type": "bert"}, open(f"{folder}/config.json", "w"))

text = "B C"
by_file = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json").encode(text).tokens
alone = transformers.AutoTokenizer.from_pretrained(folder).tokenize(text)
json.dump({"do_lower_case": False}, open(f"{folder}/tokenizer_config.json", "w"))
configured = transformers.AutoTokenizer.from_pretrained(folder).tokenize(text)
print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}: {text!r} is {by_file} by the file, "
      f"{alone} by transformers, {configured} with do_lower_case false in tokenizer_config.json")
assert (by_file, alone, configured) == (["B", "C"], ["b", "c"], ["B", "C"])
PY
done
