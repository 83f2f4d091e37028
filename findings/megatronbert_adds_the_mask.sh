#!/usr/bin/env bash
# MegatronBERT adds a 0/1 attention mask to the scores: real tokens get +1, padding stays.
#
# Expected: an attention_mask with 1 at real tokens and 0 at padding hides padding, in MegatronBERT as in BERT. Tokenizers
#   return such masks, and PaddleNLP documents them for whole numbers.
# Happens: PaddleNLP 3.0.0b4 turns [rows, width] into [rows, 1, 1, width] and adds the 0 and 1 to the attention scores. So a mask of
#   ones does nothing, and a right mask makes padding only e times less likely. Without a mask, or with 0 and -1e4, it is right.
# Matters: the model is worse with the tokenizer's mask than without a mask, and no message says so.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import paddle, paddlenlp
from paddlenlp.transformers import BertConfig, BertModel, MegatronBertConfig, MegatronBertModel

print("paddle", paddle.__version__, "paddlenlp", paddlenlp.__version__)
sizes = dict(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
             max_position_embeddings=64, type_vocab_size=2, pad_token_id=0)
alone = paddle.arange(5, 13).reshape([1, 8])
padded = paddle.concat([alone, paddle.zeros([1, 8], "int64")], axis=1)
found = {}
for name, model in (("BERT", BertModel(BertConfig(**sizes))), ("MegatronBERT", MegatronBertModel(MegatronBertConfig(**sizes)))):
    paddle.seed(0)
    for parameter in model.parameters():
        parameter.set_value(parameter + 0.3 * paddle.randn(parameter.shape))
    model.eval()
    expected = model(alone)[0]
    for kind, mask in (("none", None), ("0/1", (padded != 0).astype("int64"))):
        states = model(padded, attention_mask=mask)[0][:, :8]
        found[name, kind] = float((states - expected).abs().max())
        print(f"{name}, mask {kind}: real tokens differ from the row without padding by up to {found[name, kind]:.2g}")
assert found["MegatronBERT", "0/1"] > 0.05 and max(value for key, value in found.items() if key != ("MegatronBERT", "0/1")) < 1e-4
PY
