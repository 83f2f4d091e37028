#!/usr/bin/env bash
# A Chinese word that was added to a BERT vocabulary has another name after it is read back.
#
# Expected: tokenizer.add_tokens(["天气"]) makes a token "天气", and a saved tokenizer has the same tokens.
# Happens: the ids are the same, but AutoTokenizer of transformers 4.57.6 and 5.24.0 names the token " 天  气 ": the
#   normalizer that puts blanks round Chinese characters is applied to the added word too.
# Matters: code that compares or counts tokens by their text, or looks up an id by it, no longer finds the word.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n天\n气\n好\n' > "$folder/vocab.txt"
"$folder/venv/bin/pip" install -q transformers==4.57.6 2>/dev/null
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import transformers

folder = sys.argv[1]
made = transformers.BertTokenizer(f"{folder}/vocab.txt")
made.add_tokens(["天气"])
made.save_pretrained(f"{folder}/model")
tokens = made.tokenize("天气好")
print(f"transformers {transformers.__version__}, as made: {tokens}, ids {made.convert_tokens_to_ids(tokens)}")
assert tokens == ["天气", "好"]
PY
for version in 4.57.6 5.24.0; do
  "$folder/venv/bin/pip" install -q "transformers==$version" 2>/dev/null
  "$folder/venv/bin/python" - "$folder/model" <<'PY'
import sys
import transformers

read = transformers.AutoTokenizer.from_pretrained(sys.argv[1], model_type="bert", tokenizer_type="bert")
tokens = read.tokenize("天气好")
print(f"transformers {transformers.__version__}, read back: {tokens}, ids {read('天气好', add_special_tokens=False)['input_ids']}")
assert tokens == [" 天  气 ", "好"] and read("天气好", add_special_tokens=False)["input_ids"] == [8, 7]
PY
done
