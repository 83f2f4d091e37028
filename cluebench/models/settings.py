"""Keys of config.json that are set here whatever a file says, and keys with values that are refused.

Any other key is a size, which the weights prove, or PaddleNLP follows it, or it has no effect on an encoder.
`tests/models/test_settings.py` goes through all keys of PaddleNLP's configurations.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluebench.foundation.errors import UsageError

#: Keys that only add outputs, or choose another way to compute the same.
SET_HERE: Mapping[str, Any] = {
    "return_dict": False,
    "output_hidden_states": False,
    "output_attentions": False,
    "use_cache": False,  # true in every BERT that Transformers writes: PaddleNLP then returns (logits, caches)
    "problem_type": None,  # chooses a loss that PaddleNLP's classes compute where they are given labels
    "dtype": "float32",  # weights are read as float32; --amp chooses what training computes in
    "add_pooling_layer": True,
    "fuse": False,
    "recompute": False,
    "sequence_parallel": False,
    "tensor_parallel_degree": 1,
}

#: Keys that change the numbers but that PaddleNLP's encoders ignore: key → the values that they compute.
ONLY: Mapping[str, tuple[Any, ...]] = {
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "cross_attention_hidden_size": (None,),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
    "quantization_config": ({},),
    "summary_type": ("first",),
    "summary_use_proj": (True,),
    "summary_activation": ("gelu",),
}


#: Other names of activations that PaddleNLP has.
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_new", "gelu_python": "gelu", "swish": "silu"}


def settled(written: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """The configuration, from the file ``where``, with `SET_HERE`. Raises UsageError for a value that `ONLY` refuses.

    A null value counts as not given.
    """
    for key, values in ONLY.items():
        value = written.get(key)
        if value is not None and value not in values:
            raise UsageError(f'{where}: "{key}" is {value}, which PaddleNLP\'s encoders do not compute')
    settings = {**{key: value for key, value in written.items() if key != "torch_dtype"}, **SET_HERE}
    if settings.get("hidden_act") in _ACTIVATIONS:
        settings["hidden_act"] = _ACTIVATIONS[settings["hidden_act"]]
    return settings
