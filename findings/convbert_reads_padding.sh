#!/usr/bin/env bash
# The predictions of ConvBERT and MobileBERT depend on the width that a batch is padded to.
#
# Expected: with the tokenizer's attention mask, padding changes no output of real tokens, as in BERT.
# Happens: ConvBERT's convolution and MobileBERT's embedding mix each token with its neighbours, and the mask is not applied there. So
#   the last real tokens of a row read padding. transformers 4.57.6 and 5.24.0 behave the same.
# Matters: a row's label depends on the other rows of its batch: a score changes with the evaluation's batch size, and sorting
#   rows by length changes it, too. Evaluate such models with one fixed width, the width of training.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 4.57.6 5.24.0; do
  "$folder/venv/bin/pip" install -q torch==2.13.0 numpy "transformers==$version" 2>/dev/null
  "$folder/venv/bin/python" - 2>/dev/null <<'PY'
import torch
import transformers

print("transformers", transformers.__version__, "torch", torch.__version__)
ids = torch.arange(5, 15).reshape(1, 10)
for name in ("Bert", "ConvBert", "MobileBert"):
    kind = getattr(transformers, f"{name}Model")
    torch.manual_seed(0)
    model = kind(kind.config_class(
        vocab_size=50, hidden_size=16, embedding_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=64, intra_bottleneck_size=16)).eval()
    differences = {}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        alone = model(ids).last_hidden_state
        for width in (11, 20):
            padded = torch.zeros(1, width, dtype=torch.long)
            padded[:, :10] = ids
            states = model(padded, attention_mask=(padded != 0).long()).last_hidden_state[:, :10]
            differences[width] = float((states - alone).abs().max() / alone.abs().max())
    print(f"{name}: padded to 11 and 20, hidden states of the ten tokens differ by "
          + " and ".join(f"{value:.0e}" for value in differences.values()))
    assert all(value < 1e-5 for value in differences.values()) if name == "Bert" else max(differences.values()) > 0.01
PY
done
