#!/usr/bin/env bash
# ERNIE, NEZHA, MegatronBERT and DistilBERT ignore layer_norm_eps.
#
# Expected: "layer_norm_eps" in a configuration is the epsilon of the model's layer norms, as in BERT.
# Happens: PaddleNLP 3.0.0b4 keeps and prints the key, but its weight initialisation writes 1e-12 into every norm of these
#   classes. BERT, RoBERTa and ELECTRA follow the key.
# Matters: a model that was trained with 1e-5 is computed with 1e-12. If a token's vector has a small variance, its outputs
#   differ, and no weight, shape or setting shows why.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import paddle, paddlenlp
from paddlenlp import transformers

print("paddle", paddle.__version__, "paddlenlp", paddlenlp.__version__)
found = {}
for name in "Bert Roberta Electra Ernie NeZha MegatronBert DistilBert".split():
    kind = getattr(transformers, f"{name}Model")
    config = kind.config_class(
        vocab_size=50, hidden_size=16, embedding_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, use_relative_position=True, layer_norm_eps=1e-3)
    model = kind(config)
    found[name] = {layer._epsilon for layer in model.sublayers() if isinstance(layer, paddle.nn.LayerNorm)}
    print(f"{name}Model: layer_norm_eps is {config.layer_norm_eps}, its norms have {sorted(found[name])}")
assert all(found[name] == {1e-3} for name in ("Bert", "Roberta", "Electra"))
assert all(found[name] == {1e-12} for name in ("Ernie", "NeZha", "MegatronBert", "DistilBert"))
PY
