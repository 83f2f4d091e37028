"""Writes tests/models/expected/: what the original libraries compute, for tests that have no PyTorch. Run by hand.

    pip install torch==2.13.0 transformers==5.24.0    # in an environment of its own; then 4.57.6 for NEZHA
    python tests/models/write_expected.py             # what is there stays

One .npz for each configuration below: config.json, the weights under the library's own names, inputs, and for each kind
of head its weights, its outputs, and every gradient of the sum of ``factors`` times outputs. Padding has factor 0.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers

COMMON = dict(
    vocab_size=40, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
    max_position_embeddings=40, type_vocab_size=2, pad_token_id=0, hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0, num_labels=3,
)  # fmt: skip
MODERN = dict(
    num_hidden_layers=4, attention_dropout=0.0, sep_token_id=3, cls_token_id=2, bos_token_id=2, eos_token_id=3
)
DISTIL = dict(
    vocab_size=40, dim=8, n_layers=2, n_heads=2, hidden_dim=12, max_position_embeddings=40, pad_token_id=0, num_labels=3
)
DEBERTA = dict(relative_attention=True, max_relative_positions=-1, pooler_hidden_size=8, pooler_dropout=0.0)
#: Name of a file → class prefix, settings.
CONFIGURATIONS = {
    "bert_gelu_new": ("Bert", dict(COMMON, hidden_act="gelu_new", layer_norm_eps=1e-5)),
    "ernie": ("Ernie", dict(COMMON, layer_norm_eps=1e-5)),
    "electra": ("Electra", dict(COMMON, embedding_size=6)),
    "electra_relu": ("Electra", dict(COMMON, hidden_act="relu", embedding_size=8)),
    "albert": ("Albert", dict(COMMON, embedding_size=6, hidden_act="gelu_new", num_hidden_groups=1)),
    "albert_groups": ("Albert", dict(COMMON, embedding_size=6, num_hidden_groups=2, inner_group_num=2)),
    "nezha": ("Nezha", dict(COMMON, max_relative_position=8, layer_norm_eps=1e-5)),
    "megatron": ("MegatronBert", dict(COMMON, layer_norm_eps=1e-5)),
    "roformer": ("RoFormer", dict(COMMON, embedding_size=None)),
    "roformer_value": ("RoFormer", dict(COMMON, embedding_size=6, rotary_value=True, hidden_act="relu")),
    "distilbert": ("DistilBert", dict(DISTIL, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, qa_dropout=0.0)),
    "deberta": ("DebertaV2", dict(
        COMMON, **DEBERTA, type_vocab_size=0, position_buckets=8, pos_att_type=["p2c", "c2p"], share_att_key=True,
        norm_rel_ebd="layer_norm", position_biased_input=False)),
    "deberta_convolution": ("DebertaV2", dict(
        COMMON, **DEBERTA, position_buckets=4, pos_att_type="c2p|p2c", conv_kernel_size=3, conv_act="tanh",
        norm_rel_ebd="layer_norm", position_biased_input=False, hidden_act="gelu_new", pooler_hidden_act="relu",
        layer_norm_eps=1e-5)),
    "xlm_roberta": ("XLMRoberta", dict(COMMON, pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5)),
    "modernbert": ("ModernBert", dict(COMMON | MODERN, local_attention=8)),
    "modernbert_biased": ("ModernBert", dict(
        COMMON, **MODERN, local_attention=10, norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True,
        classifier_pooling="mean")),
}  # fmt: skip
HEADS = {"pair": "ForSequenceClassification", "choice": "ForMultipleChoice", "span": "ForQuestionAnswering"}
LENGTHS = [21, 9, 13, 6]  # padded to no multiple of 8


def main() -> None:
    for name, (prefix, settings) in CONFIGURATIONS.items():
        path = Path(__file__).parent / "expected" / f"{name}.npz"
        if hasattr(transformers, f"{prefix}Model") and not path.exists():
            write(path, prefix, settings)


def write(path: Path, prefix: str, settings: dict) -> None:
    random = np.random.default_rng(0)
    config = getattr(transformers, f"{prefix}Config")(**settings)
    ids = random.integers(5, 40, (len(LENGTHS), max(LENGTHS)))
    mask = np.arange(ids.shape[1]) < np.array(LENGTHS)[:, None]
    ids = np.where(mask, ids, config.pad_token_id)
    types = (
        np.where(mask & (np.arange(ids.shape[1]) > 4), 1, 0) if getattr(config, "type_vocab_size", 2) > 1 else 0 * ids
    )
    arrays = {"input_ids": ids, "token_type_ids": types}
    backbone: dict[str, torch.Tensor] = {}
    for kind, suffix in HEADS.items():
        head = getattr(transformers, prefix + suffix, None)
        if head is None:
            continue
        config = getattr(transformers, f"{prefix}Config")(**settings | ({"num_labels": 2} if kind == "span" else {}))
        model = head(config).eval()
        for parameter_name, parameter in model.named_parameters():
            if not parameter.requires_grad:  # RoFormer's sines and cosines
                continue
            backbone_name = parameter_name.removeprefix(model.base_model_prefix + ".")
            if parameter_name != backbone_name and backbone_name in backbone:
                parameter.data = backbone[backbone_name].clone()
                continue
            scale = 0.3 if parameter.ndim > 1 else 0.1
            drawn = random.normal(0, scale, tuple(parameter.shape)) + (parameter.ndim == 1) * parameter.data.numpy()
            parameter.data = torch.tensor(drawn, dtype=torch.float32)
            if parameter_name != backbone_name:
                backbone[backbone_name] = parameter.data
        inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask.astype(np.int64))}
        if prefix not in ("DistilBert", "ModernBert"):
            inputs["token_type_ids"] = torch.tensor(types)
        if kind == "choice":
            inputs = {key: value.reshape(2, 2, -1) for key, value in inputs.items()}
        found = model(**inputs)
        outputs = [found.start_logits, found.end_logits] if kind == "span" else [found.logits]
        shapes = [tuple(output.shape) for output in outputs]
        factors = [random.normal(size=shape) * (mask if kind == "span" else 1) for shape in shapes]
        sum(
            (output * torch.tensor(factor, dtype=torch.float32)).sum() for output, factor in zip(outputs, factors)
        ).backward()
        arrays[f"{kind}/config"] = np.array(json.dumps({**config.to_diff_dict(), "architectures": [head.__name__]}))
        for key, parameter in model.named_parameters():
            inside = key.startswith(model.base_model_prefix + ".")
            arrays[f"weights/{key}" if inside else f"{kind}/weights/{key}"] = parameter.detach().numpy()
            if parameter.grad is not None:
                arrays[f"{kind}/gradients/{key}"] = parameter.grad.numpy()
        for number, (output, factor) in enumerate(zip(outputs, factors)):
            arrays[f"{kind}/outputs/{number}"] = output.detach().numpy()
            arrays[f"{kind}/factors/{number}"] = factor.astype(np.float32)
    np.savez_compressed(path, **arrays)
    print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
