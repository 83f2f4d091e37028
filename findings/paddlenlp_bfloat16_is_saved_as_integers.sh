#!/usr/bin/env bash
# The safetensors file of a bfloat16 model from PaddleNLP contains integers.
#
# Expected: save_pretrained(..., safe_serialization=True) writes bfloat16 weights with the format's type BF16, as
#   safetensors.paddle.save_file and transformers do. Then every reader gets the same numbers.
# Happens: PaddleNLP 3.0.0b4 writes through numpy, which has no bfloat16, and labels the bits as U16. PaddleNLP itself
#   reads them rightly, because config.json says bfloat16. torch and numpy get whole numbers: 1.0 is 16256.
# Matters: a script that copies the weights into a model of torch converts them to float without a message, and all weights
#   are numbers between 0 and 65535.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PY'
import sys
from importlib.metadata import version

import paddle
import safetensors.paddle
from paddlenlp.transformers import BertConfig, BertModel

print("paddle", paddle.__version__, "paddlenlp", version("paddlenlp"), "safetensors", version("safetensors"))
model = BertModel(BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                             intermediate_size=32, max_position_embeddings=64))
model.to(dtype="bfloat16")
model.save_pretrained(f"{sys.argv[1]}/model", safe_serialization=True)
safetensors.paddle.save_file(model.state_dict(), f"{sys.argv[1]}/direct.safetensors")
read = BertModel.from_pretrained(f"{sys.argv[1]}/model").embeddings.layer_norm.weight
print("PaddleNLP reads", read.dtype, read[:3].astype("float32").tolist())
assert read.dtype == paddle.bfloat16 and float(read.astype("float32").mean()) == 1
PY
python3 -m venv "$folder/other"
"$folder/other/bin/pip" install -q torch==2.13.0 numpy safetensors==0.8.0 2>/dev/null
"$folder/other/bin/python" - "$folder" 2>/dev/null <<'PY'
import sys

import safetensors
import torch

for name, expected in (("direct.safetensors", ("BF16", 1.0)), ("model/model.safetensors", ("U16", 16256.0))):
    with safetensors.safe_open(f"{sys.argv[1]}/{name}", framework="pt") as file:
        key = "embeddings.layer_norm.weight"
        kind, weight = file.get_slice(key).get_dtype(), file.get_tensor(key)
    norm = torch.nn.LayerNorm(16)
    norm.load_state_dict({"weight": weight, "bias": torch.zeros(16)})
    print(f"torch {torch.__version__} reads {name}: {kind}, {weight.dtype}; a layer norm with it has {norm.weight[:3].tolist()}")
    assert (kind, float(norm.weight[0])) == expected
PY
