#!/usr/bin/env bash
# A BERT with relative positions, written by transformers 4.57.6, is another model in 5.24.0.
#
# Expected: a model that the newer version can't compute is refused.
# Happens: transformers 5 computes BERT with absolute positions only. It reads "position_embedding_type": "relative_key",
#   lists the distance embeddings as UNEXPECTED in its report on loading, continues, and computes other hidden states.
# Matters: the report says that such a row "can be ignored when loading from different task/architecture". Scores of such
#   a model are wrong, and no error says so.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 4.57.6 5.24.0; do
  "$folder/venv/bin/pip" install -q torch==2.13.0 numpy "transformers==$version" 2>/dev/null
  "$folder/venv/bin/python" - "$folder" <<'PY'
import os, sys
import torch, transformers
from transformers import BertConfig, BertModel

folder = sys.argv[1]
ids = torch.tensor([[2, 7, 5, 9, 6, 3]])
if not os.path.exists(f"{folder}/model"):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=10, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                        max_position_embeddings=16, position_embedding_type="relative_key", initializer_range=0.5)
    BertModel(config).save_pretrained(f"{folder}/model")
model = BertModel.from_pretrained(f"{folder}/model").eval()
with torch.no_grad():
    hidden = model(ids).last_hidden_state
if os.path.exists(f"{folder}/hidden.pt"):
    difference = float((hidden - torch.load(f"{folder}/hidden.pt")).abs().max())
    print(f"transformers {transformers.__version__}: hidden states differ from those of 4.57.6 by up to {difference:.3f}")
    assert difference > 0.1
else:
    print(f"transformers {transformers.__version__}: hidden states up to {float(hidden.abs().max()):.3f}")
    torch.save(hidden, f"{folder}/hidden.pt")
PY
done
