"""A model on a batch: what training, evaluation and the preflight compute."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import paddle

from cluebench.models.heads import score_options, unwrapped
from cluebench.models.unpadded import leaving_out


def forward(model: paddle.nn.Layer, batch: Mapping[str, Any]) -> tuple[paddle.Tensor, ...]:
    """The outputs of the model's head for a batch of ``input_ids`` and ``token_type_ids``, [B, T] or [B, N, T].

    (logits [B, labels],) of rows, (scores [B, N],) of the N options of each question, (starts [B, T], ends [B, T]) of
    spans. Where the batch has ``places``, only these are computed.
    """
    ids, types, places = batch["input_ids"], batch["token_type_ids"], batch.get("places")
    with leaving_out(unwrapped(model), places) if places else nullcontext():
        outputs = score_options(model, ids, types) if ids.ndim == 3 else model(ids, types)
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
