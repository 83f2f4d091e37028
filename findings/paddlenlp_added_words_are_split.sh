#!/usr/bin/env bash
# PaddleNLP splits a word that was added to a tokenizer once the tokenizer is read back.
#
# Expected: tokenizer.add_tokens(["天气"]), save_pretrained and from_pretrained give a tokenizer that makes the same tokens.
# Happens: PaddleNLP 3.0.0b4 writes the word into added_tokens.json and tokenizer_config.json, and after from_pretrained
#   the word has its id and counts in len(tokenizer). But a text with this word is split as if it weren't there: into
#   characters, or into [UNK]. BERT, ERNIE, RoFormer, NEZHA and ELECTRA do so, and AutoTokenizer, too.
# Matters: a model that was trained with added words never sees them again after a restart, and its embedding rows for
#   them are unused. Nothing fails. Words in additional_special_tokens survive.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n今\n天\n气\n好\n' > "$folder/vocab.txt"
"$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PY'
import sys
from importlib.metadata import version

import paddle
from paddlenlp import transformers

print("paddle", paddle.__version__, "paddlenlp", version("paddlenlp"))
folder = sys.argv[1]
for name in "Bert Ernie RoFormer NeZha Electra".split():
    kind = getattr(transformers, f"{name}Tokenizer")
    made = kind(f"{folder}/vocab.txt")
    made.add_tokens(["天气", "covid"])
    made.save_pretrained(f"{folder}/{name}")
    before, text = made.tokenize("今天气covid好"), "今天气covid好"
    for reader in (kind, transformers.AutoTokenizer):
        read = reader.from_pretrained(f"{folder}/{name}")
        after = read.tokenize(text)
        print(f"{name}, read by {reader.__name__}: {before} became {after}; the words have ids "
              f"{read.convert_tokens_to_ids(['天气', 'covid'])} of {len(read)}")
        assert before == ["今", "天气", "covid", "好"] and len(read) == 11
        assert read.convert_tokens_to_ids(["天气", "covid"]) == [9, 10]
        assert "".join(after).startswith("今天气") and "天气" not in after and "covid" not in after
PY
