"""A fine-tuned model in the format of Hugging Face's Transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from cluebench.benchmark.tasks import Task
from cluebench.foundation.errors import UsageError
from cluebench.models.architectures import SPELLINGS, architecture_of, prefix_of
from cluebench.models.comparison import input_names
from cluebench.models.configuration import first_position, longest_input
from cluebench.models.hugging_face import in_hugging_face
from cluebench.models.tokenizer_file import TokenizerFile

#: Settings that only this project and PaddleNLP have.
_OURS = {"cluebench", "finetuning_task", "fuse", "init_class", "pool_act", "task_id", "use_relative_position"}
_SPECIAL = ("cls", "sep", "pad", "unk", "mask")


def write_hugging_face(model: paddle.nn.Layer, tokenizer: Any, task: Task, folder: Path) -> None:
    """config.json, model.safetensors and the tokenizer, for Transformers' ``AutoModelFor….from_pretrained``.

    Raises UsageError for an architecture or head that Transformers does not have, or has otherwise.
    """
    kind, architecture = type(model).__name__, architecture_of(type(model))
    if not architecture.in_transformers or prefix_of(kind) in ("ErnieGram", "TinyBert"):
        raise UsageError(f"Transformers has no {kind}; --format onnx can be read without it")
    other_pooler = kind == "RoFormerForSequenceClassification" and model.config.pool_act != model.config.hidden_act
    if kind.endswith(tuple(architecture.unlike) or "-") or other_pooler:
        raise UsageError(f"Transformers' {kind} computes something else; --format onnx keeps this model's computation")
    config, weights = _configuration(model, task), in_hugging_face(model)
    if prefix_of(kind) == "Roberta":  # Transformers counts positions from pad_token_id + 1
        shift = config["pad_token_id"] + 1 - first_position(model.config)
        name = "roberta.embeddings.position_embeddings.weight"
        weights[name] = np.concatenate([np.zeros_like(weights[name][:shift]), weights[name]])
        config["max_position_embeddings"] += shift
    (folder / "config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    _write_tokenizer(tokenizer, model, folder)


def _configuration(model: paddle.nn.Layer, task: Task) -> dict[str, Any]:
    """The model's settings under Transformers' keys, with what PaddleNLP really computes."""
    architecture, kind = architecture_of(type(model)), type(model)
    general = kind.config_class.__mro__[1]().to_dict()
    settings = {key: value for key, value in model.config.to_dict().items() if general.get(key, general) != value}
    epsilons = {layer._epsilon for layer in model.sublayers() if isinstance(layer, paddle.nn.LayerNorm)}
    if len(epsilons) > 1:
        raise UsageError(f"{kind.__name__} has norms with different epsilons, which Transformers can't express")
    settings["norm_eps" if "norm_eps" in settings else "layer_norm_eps"] = epsilons.pop()
    back = {ours: theirs for theirs, ours in architecture.settings.items()}
    settings = {back.get(key, key): value for key, value in settings.items() if key not in _OURS}
    if "qa_dropout" not in settings and "seq_classif_dropout" in settings:
        settings["qa_dropout"] = settings["seq_classif_dropout"]
    spelled = {ours: theirs for theirs, ours in SPELLINGS.items()}
    prefix = prefix_of(kind.__name__)
    return {
        **settings,
        "architectures": [spelled.get(prefix, prefix) + kind.__name__.removeprefix(prefix)],
        "model_type": architecture.model_type or kind.config_class.model_type,
        "pad_token_id": model.config.pad_token_id,
        **({"id2label": dict(enumerate(task.labels)), "label2id": {label: i for i, label in enumerate(task.labels)}}
           if task.labels else {}),
    }  # fmt: skip


def _write_tokenizer(tokenizer: Any, model: paddle.nn.Layer, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json, which both Transformers 4 and 5 read."""
    named = {f"{name}_token": getattr(tokenizer, f"{name}_token") for name in _SPECIAL}
    if isinstance(tokenizer, TokenizerFile):
        tokenizer.save_pretrained(str(folder))
    else:
        _word_pieces(tokenizer).save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest_input(model.config),
        "model_input_names": [*input_names(model), "attention_mask"],
        **named,
    }
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        settings = {key: value for key, value in settings.items() if value is not None}
        config.write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _word_pieces(tokenizer: Any) -> Tokenizer:
    """PaddleNLP's WordPiece tokenizer as the `tokenizers` library's."""
    basic = tokenizer.basic_tokenizer
    made = Tokenizer(
        models.WordPiece(tokenizer.get_vocab(), unk_token=tokenizer.unk_token, max_input_chars_per_word=100)
    )
    made.normalizer = normalizers.BertNormalizer(
        lowercase=bool(basic.do_lower_case), strip_accents=getattr(basic, "strip_accents", None)
    )
    made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    made.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.cls_token_id), (sep, tokenizer.sep_token_id)],
    )
    made.add_special_tokens([token for name in _SPECIAL if (token := getattr(tokenizer, f"{name}_token"))])
    return made
