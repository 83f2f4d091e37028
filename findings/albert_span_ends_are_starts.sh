#!/usr/bin/env bash
# ALBERT's question answering returns the start logits twice.
#
# Expected: AlbertForQuestionAnswering returns start logits and end logits, the two outputs of its last layer.
# Happens: in PaddleNLP 3.0.0b4 the end logits are the start logits, whatever the weights are. The layer's second output is
#   used nowhere and gets no gradient. BertForQuestionAnswering is right.
# Matters: the loss falls and nothing fails, but an answer has at most one token: the most likely end is always the
#   start. A head that another library trained loses its ends without a message.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import paddle, paddlenlp
from paddlenlp.transformers import AlbertConfig, AlbertForQuestionAnswering, BertConfig, BertForQuestionAnswering

sizes = dict(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
             max_position_embeddings=32)
print("paddle", paddle.__version__, "paddlenlp", paddlenlp.__version__)
same = {}
for name, model in (("Albert", AlbertForQuestionAnswering(AlbertConfig(embedding_size=8, num_labels=2, **sizes))),
                    ("Bert", BertForQuestionAnswering(BertConfig(**sizes)))):
    model.eval()
    starts, ends = model(paddle.arange(5, 17).reshape([1, 12]))
    (starts.sum() + 3 * ends.sum()).backward()
    last = model.qa_outputs if name == "Albert" else model.classifier
    gradients = last.bias.grad.tolist()
    same[name] = bool((starts == ends).all())
    print(f"{name}ForQuestionAnswering: ends are {'the starts' if same[name] else 'others'}; of the sum of starts + 3 ends "
          f"the last layer's two biases have the gradients {gradients}")
assert same == {"Albert": True, "Bert": False}
PY
