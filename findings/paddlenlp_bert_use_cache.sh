#!/usr/bin/env bash
# PaddleNLP returns caches for a BERT that transformers wrote, and ignores a decoder's mask.
#
# Expected: "use_cache" concerns decoders, so an encoder with a head returns its logits; and "is_decoder": true makes a
#   BERT look at earlier tokens only, as in transformers.
# Happens: every config.json of a BERT that transformers 4 and 5 write has "use_cache": true. PaddleNLP 3.0.0b4's
#   BertForSequenceClassification then returns (logits, caches) instead of the logits. "is_decoder": true changes nothing:
#   every token still sees the tokens after it.
# Matters: code that works with PaddleNLP's own directories fails at the first loss with a directory of transformers, and
#   a decoder's hidden states are wrong without a message.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
from importlib.metadata import version

import paddle
from paddlenlp.transformers import BertConfig, BertForSequenceClassification, BertModel

sizes = dict(vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
             max_position_embeddings=16, num_labels=3)
ids = paddle.to_tensor([[2, 7, 5, 9, 6, 3]])


def called(kind, **settings):
    paddle.seed(0)
    model = kind(BertConfig(**sizes, **settings))
    model.eval()
    with paddle.no_grad():
        return model(ids)


plain, cached = (called(BertForSequenceClassification, use_cache=use) for use in (False, True))
print(f"paddlenlp {version('paddlenlp')}, paddlepaddle {version('paddlepaddle')}")
print(f"use_cache false: {type(plain).__name__} {plain.shape}; use_cache true: {type(cached).__name__} of {len(cached)}")
assert isinstance(plain, paddle.Tensor) and isinstance(cached, tuple)
encoder, decoder = (called(BertModel, is_decoder=decodes)[0] for decodes in (False, True))
print(f"is_decoder true: hidden states differ by {float((encoder - decoder).abs().max())}")
assert float((encoder - decoder).abs().max()) == 0
PY
