#!/usr/bin/env bash
# PaddleNLP counts every special token of a newer tokenizer_config.json as added to the vocabulary.
#
# Expected: "added_tokens_decoder" (transformers 4.34 and later write it) lists tokens with their ids. Tokens
#   in vocab.txt are not new, so the tokenizer has as many tokens as vocab.txt has lines.
# Happens: PaddleNLP 3.0.0b4's BertTokenizer counts [PAD], [UNK], [CLS], [SEP] and [MASK] as added tokens, and its length is
#   too large by their number. The ids are right.
# Matters: embeddings that are resized to len(tokenizer) get rows without a token, and get_added_vocab() names all special
#   tokens as missing from the vocabulary.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
mkdir "$folder/model"
printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n天\n气\n' > "$folder/model/vocab.txt"
"$folder/venv/bin/python" - "$folder/model" 2>/dev/null <<'PY'
import json, sys
from importlib.metadata import version

from paddlenlp.transformers import BertTokenizer

folder = sys.argv[1]
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
rest = dict(lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
settings = {"added_tokens_decoder": {str(row): {"content": token, **rest} for row, token in enumerate(special)}}
json.dump(settings, open(f"{folder}/tokenizer_config.json", "w"))
tokenizer = BertTokenizer.from_pretrained(folder)
ids = tokenizer("天气")["input_ids"]
print(f"paddlenlp {version('paddlenlp')}: 7 lines in vocab.txt, len(tokenizer) {len(tokenizer)}, ids {ids}, "
      f"get_added_vocab() {tokenizer.get_added_vocab()}")
assert len(tokenizer) == 12 and ids == [2, 5, 6, 3] and list(tokenizer.get_added_vocab()) == special
PY
