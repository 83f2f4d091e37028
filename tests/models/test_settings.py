"""Every key of PaddleNLP's configurations is decided: set here, refused, a size, followed, or without effect."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from tests.models.conftest import ARCHITECTURES, LATER, changed, write_model

pytestmark = pytest.mark.slow

#: Proven by the weights, or followed by PaddleNLP's encoders.
FOLLOWED = {
    "act_dropout", "attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob", "cls_token_id",
    "embedding_size", "epsilon", "fit_size", "hidden_act", "hidden_dropout_prob", "hidden_size", "id2label",
    "initializer_range", "inner_group_num", "intermediate_size", "label2id", "layer_norm_eps",
    "max_position_embeddings", "max_relative_position", "max_relative_positions", "normalize_before",
    "num_attention_heads", "num_choices", "num_hidden_groups", "num_hidden_layers", "pad_token_id", "pool_act",
    "pooler_dropout", "pooler_hidden_act", "pooler_hidden_size", "pos_att_type", "position_biased_input",
    "rel_pos_size", "relative_attention", "rotary_value", "share_attn_key", "task_id", "task_type_vocab_size",
    "type_vocab_size", "use_bias", "use_task_id", "vocab_size",
}  # fmt: skip

#: Of text generation, of large models in parts, or of what is written with a model: encoders pass them over.
WITHOUT_EFFECT = {
    "_name_or_path", "architectures", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
    "chunk_size_feed_forward", "context_parallel_degree", "decoder_start_token_id", "disc_weight",
    "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id",
    "fuse_attention_ffn", "fuse_attention_qkv", "fuse_sequence_parallel_allreduce", "gen_weight", "length_penalty",
    "max_length", "min_length", "no_recompute_layers", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "offload_recompute_inputs", "output_scores", "paddlenlp_version",
    "pipeline_parallel_degree", "pp_recompute_interval", "prefix", "recompute_granularity", "recompute_use_reentrant",
    "refined_recompute", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "sep_parallel_degree",
    "sep_token_id", "suppress_tokens", "task_specific_params", "temperature", "tensor_parallel_output",
    "tensor_parallel_rank", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k", "top_p",
    "typical_p", "use_flash_attention", "use_fused_dropout_add", "use_fused_linear", "use_fused_linear_cross_entropy",
    "use_fused_rms_norm", "use_fused_rope", "virtual_pp_degree",
}  # fmt: skip

ALL = [prefix for prefix in [*ARCHITECTURES, *LATER] if prefix != "ModernBert"]  # whose configuration is ours


@pytest.mark.parametrize("prefix", ALL)
def test_every_key_is_decided(prefix):
    import paddlenlp.transformers as transformers

    from cluebench.models.configuration import ONLY, SET_HERE

    keys = set(vars(getattr(transformers, f"{prefix}Config")()))
    assert not keys - FOLLOWED - WITHOUT_EFFECT - SET_HERE.keys() - ONLY.keys()


@pytest.fixture
def outputs(models):
    return partial(outputs_of, models)


def outputs_of(models, folder: Path) -> list:
    """Of each kind of head, for a batch with padding."""
    import paddle

    found = []
    for name in ("ocnli", "c3", "cmrc2018"):
        paddle.seed(1)
        model = models.load_model(TASKS[name], Model.of(folder))
        model.eval()
        ids = paddle.to_tensor([[2, 40, 41, 42, 3], [2, 43, 3, 0, 0]])
        ids = ids.unsqueeze(0) if name == "c3" else ids
        batch = {"input_ids": ids, "token_type_ids": paddle.zeros_like(ids)}
        found += [output.numpy() for output in models.forward(model, batch)]
    return found


@pytest.mark.parametrize("prefix", ["Bert", "Ernie", "RoFormerv2"])
def test_what_only_adds_outputs_is_switched_off(prefix, outputs, tmp_path):
    folder = write_model(tmp_path, prefix)
    plain = outputs(folder)
    other = dict(
        return_dict=True, output_hidden_states=True, output_attentions=True, use_cache=True, dtype="float16",
        torch_dtype="float16", problem_type="multi_label_classification", sequence_parallel=True, recompute=True,
        tensor_parallel_degree=2, chunk_size_feed_forward=2, gradient_checkpointing=True, torchscript=True,
    )  # fmt: skip
    assert all(np.array_equal(*pair) for pair in zip(plain, outputs(changed(folder, **other)), strict=True))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("is_encoder_decoder", True),
        ("position_embedding_type", "relative_key_query"),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"weight_quantize_algo": "weight_only_int8"}),
    ],
)
def test_what_changes_the_numbers_is_refused(key, value, outputs, tmp_path):
    folder = changed(write_model(tmp_path, "Bert"), **{key: value})
    with pytest.raises(UsageError, match=rf'config.json: "{key}" is .*do not compute$'):
        outputs(folder)


def test_other_names_of_activations(outputs, tmp_path):
    """`gelu_pytorch_tanh` of Transformers is PaddleNLP's `gelu_new`."""
    folder, names = write_model(tmp_path, "Bert"), ("gelu_new", "gelu_pytorch_tanh", "gelu")
    ours, theirs, other = (outputs(changed(folder, hidden_act=name))[0] for name in names)
    assert np.array_equal(ours, theirs) and not np.array_equal(ours, other)
