#!/usr/bin/env bash
# PaddleNLP's Trainer applies weight decay to the layer norms of DeBERTa-v2 and XLM-RoBERTa.
#
# Expected: with --weight_decay the Trainer decays no bias and no layer norm, as PaddleNLP's and transformers' scripts do.
# Happens: PaddleNLP 3.0.0b4's Trainer excludes parameters with "bias" or "norm" in their names. BERT, ERNIE and most others
#   call their norms layer_norm or norm1, but DeBERTa-v2 and XLM-RoBERTa "LayerNorm", with a capital N.
# Matters: if you change the model's name in a working script, every norm's scale is pulled towards 0 in each step.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PY'
import sys
from importlib.metadata import version

import paddle
from paddlenlp import transformers
from paddlenlp.trainer import Trainer, TrainingArguments

print("paddle", paddle.__version__, "paddlenlp", version("paddlenlp"))
arguments = TrainingArguments(output_dir=sys.argv[1], learning_rate=0.1, weight_decay=0.5, device="cpu")
decayed = {}
for name in "Bert Ernie Albert Electra RoFormer DebertaV2 XLMRoberta".split():
    kind = getattr(transformers, f"{name}Model")
    model = kind(kind.config_class(
        vocab_size=50, hidden_size=16, embedding_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, type_vocab_size=2))
    trainer = Trainer(model=model, args=arguments)
    trainer.lr_scheduler = 0.1
    optimizer = trainer.create_optimizer()
    for parameter in model.parameters():
        (parameter * 0).sum().backward()  # gradients of 0: whatever changes, decay changes
    optimizer.step()
    norms = [layer.weight for layer in model.sublayers() if isinstance(layer, paddle.nn.LayerNorm)]
    decayed[name] = sum(float(weight.mean()) < 0.99 for weight in norms)
    print(f"{name}: {decayed[name]} of {len(norms)} norms became smaller; the first has a mean weight of {float(norms[0].mean()):.3f}")
    assert decayed[name] == (len(norms) if name in ("DebertaV2", "XLMRoberta") else 0)
PY
