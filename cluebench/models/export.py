"""A fine-tuned model for other programs: Transformers' format, an ONNX graph, Paddle's static graph."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import paddle
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from cluebench.benchmark.tasks import Task
from cluebench.foundation.errors import UsageError
from cluebench.models.architectures import SPELLINGS, architecture_of, in_hugging_face, prefix_of
from cluebench.models.configuration import first_position, longest_input
from cluebench.models.forward_pass import made_up_batch, outputs_of, unwrapped
from cluebench.models.loading import load_model
from cluebench.models.tokenizer import TokenizerFile
from cluebench.pretrained.model import Model

T = TypeVar("T")

#: The largest difference of outputs that counts as none, relative to the largest output.
TOLERANCE = 1e-5

#: Settings that only this project and PaddleNLP have.
_OURS = {"cluebench", "finetuning_task", "fuse", "init_class", "pool_act", "task_id", "use_relative_position"}
_SPECIAL = ("cls", "sep", "pad", "unk", "mask")
_OPSET = 17


def input_names(model: paddle.nn.Layer) -> list[str]:
    """The model's inputs: ids, and token types where it has more than one type."""
    types = getattr(model.config, "type_vocab_size", 0) > 1 and hasattr(
        model.base_model.embeddings, "token_type_embeddings"
    )
    return ["input_ids", "token_type_ids"] if types else ["input_ids"]


def largest_difference(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Relative to the largest output. Starts and ends of spans are compared everywhere, at padding too."""
    largest = max(np.abs(output).max() for output in expected)
    return float(max(np.abs(ours - theirs).max() for ours, theirs in zip(found, expected, strict=True)) / largest)


def _compare(written: str, outputs: Callable[..., Sequence[np.ndarray]], model: paddle.nn.Layer, shape: Any) -> None:
    """Raises UsageError where ``outputs`` of a made-up batch, of this shape, are others than the model's."""
    batch = made_up_batch(model, shape)
    difference = largest_difference(outputs(batch), outputs_of(model, batch))
    if difference > TOLERANCE:
        raise UsageError(f"{written}: its outputs differ by {difference:.1e} of their size from the model's")


# Transformers ---------------------------------------------------------------------------------------------------------


def write_hugging_face(model: paddle.nn.Layer, tokenizer: Any, task: Task, folder: Path) -> None:
    """config.json, model.safetensors and the tokenizer, for Transformers' ``AutoModelFor….from_pretrained``.

    Raises UsageError for an architecture or head that Transformers does not have, or has otherwise, and where the model
    that is read back from there has other outputs.
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
    again = load_model(task, Model.of(folder, "--output"), tokenizer=tokenizer, head_required=True)
    again.eval()
    options = [task.num_choices] if task.num_choices else []
    _compare(f"--output {folder}", partial(outputs_of, again), model, [4, *options, 24])


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


# Graphs ---------------------------------------------------------------------------------------------------------------


def write_onnx(model: paddle.nn.Layer, task: Task, folder: Path, longest: int) -> tuple[str, list[int]]:
    """``model.onnx``; returns what the graph was compared with, and the shape of its inputs (-1: any size).

    Inputs: ``input_ids`` and, where the model has token types, ``token_type_ids``, int64 [rows, tokens], of multiple
    choice [rows, options, tokens]. Where Paddle can't trace a graph for any number of tokens, it is ``longest``.
    Raises UsageError where Paddle can't trace the model, or where the graph computes something else.
    """
    graph, file = folder / "graph", folder / "model.onnx"

    def attempt(shape: list[int]) -> str:
        _static_graph(model, graph, shape)
        _convert(graph, file)
        return _compare_graph(model, file, shape, longest)

    try:
        return _first_possible(attempt, model, task, longest)
    finally:
        for part in folder.glob("graph.*"):
            part.unlink()


def write_static(model: paddle.nn.Layer, task: Task, folder: Path, longest: int) -> None:
    """``paddle.jit.load("<folder>/model")``, and config.json, whose ``id2label`` names the label of each logit.

    Inputs as in `write_onnx`. Output: logits, float32 [rows, labels].
    """
    _first_possible(lambda shape: _static_graph(model, folder / "model", shape), model, task, longest)
    unwrapped(model).config.save_pretrained(str(folder))


def _first_possible(
    attempt: Callable[[list[int]], T], model: paddle.nn.Layer, task: Task, longest: int
) -> tuple[T, list[int]]:
    """Tries shapes of inputs, -1 for any size; first the shapes that not every model can be traced for."""
    options, reason = [task.num_choices] if task.num_choices else [], ""
    for shape in ([-1, *options, -1], [-1, *options, longest], [1, *options, longest]):
        try:
            return attempt(shape), shape
        except UsageError:
            raise
        except Exception as error:  # Paddle's and the runtime's own
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[-200:]}"
    raise UsageError(f"{type(model).__name__} can't be made a static graph ({reason})")


def check_static(model: paddle.nn.Layer) -> None:
    """Raises UsageError for an architecture that Paddle can't make a static graph of."""
    if not architecture_of(type(model)).in_onnx:
        raise UsageError(f"{type(model).__name__} can't be made a static graph with Paddle {paddle.__version__}")


def _static_graph(model: paddle.nn.Layer, path: Path, shape: Sequence[int]) -> None:
    """``paddle.jit.save`` of the model in evaluation mode. ``shape``: of its inputs, -1 for any size."""
    check_static(model)
    model.eval()
    if len(shape) == 3:
        model.num_choices = shape[1]
    specs = [paddle.static.InputSpec(shape=shape, dtype="int64", name=name) for name in input_names(model)]
    with _quiet():
        paddle.jit.save(paddle.jit.to_static(model, input_spec=specs, full_graph=True), str(path))
        model.forward = model.forward.rollback() if hasattr(model.forward, "rollback") else model.forward


def _convert(graph: Path, file: Path) -> None:
    import paddle2onnx  # slow to import and rarely wanted

    settings = {"opset_version": _OPSET, "enable_optimize": False}
    with _quiet():  # its default "optimize_tool" installs packages with pip
        paddle2onnx.export(f"{graph}.json", f"{graph}.pdiparams", str(file), optimize_tool="none", **settings)


def _compare_graph(model: paddle.nn.Layer, file: Path, shape: Sequence[int], longest: int) -> str:
    """What ran the graph. Raises UsageError where its outputs are others than the model's."""
    try:
        from onnxruntime import InferenceSession as Runner
        from onnxruntime import __version__ as version

        by = f"onnxruntime {version}"
    except ImportError:
        from onnx.reference import ReferenceEvaluator as Runner

        by = "the reference evaluator of onnx"
    with _quiet():  # onnxruntime warns about initializers that the graph does not need
        runner = Runner(str(file))
    names = input_names(model)
    for width in {longest, min(longest, 9)} if shape[-1] == -1 else {shape[-1]}:
        rows = [2 if shape[0] == -1 else 1, *shape[1:-1], width]
        _compare(file.name, lambda batch: runner.run(None, {name: batch[name] for name in names}), model, rows)
    return by


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Paddle's and paddle2onnx's C++ write to both streams."""
    streams = {number: os.dup(number) for number in (1, 2)}
    with open(os.devnull, "w") as nowhere:
        try:
            for number in streams:
                os.dup2(nowhere.fileno(), number)
            yield
        finally:
            for number, stream in streams.items():
                os.dup2(stream, number)
                os.close(stream)
