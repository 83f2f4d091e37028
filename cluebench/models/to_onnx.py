"""A fine-tuned model as an ONNX graph, made from Paddle's static graph."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import paddle

from cluebench.benchmark.tasks import Task
from cluebench.foundation.errors import UsageError
from cluebench.models.architectures import architecture_of
from cluebench.models.comparison import TOLERANCE, input_names, largest_difference, made_up_rows, outputs_of

_OPSET = 17


def write_onnx(model: paddle.nn.Layer, task: Task, folder: Path, max_seq_length: int) -> tuple[str, list[int]]:
    """``model.onnx``; returns what the graph was compared with, and the shape of its inputs (-1: any size).

    Inputs: ``input_ids`` and, where the model has token types, ``token_type_ids``, int64 [rows, tokens], of multiple
    choice [rows, options, tokens]. Where Paddle can't trace a graph for any number of tokens, it is ``max_seq_length``.
    Raises UsageError where Paddle can't trace the model, or where the graph computes something else.
    """
    reason = ""
    for shape in input_shapes(task, max_seq_length):
        try:
            static_graph(model, folder / "graph", shape)
            _convert(folder / "graph", folder / "model.onnx")
            by = _compare(model, folder / "model.onnx", shape, max_seq_length)
        except UsageError:
            raise
        except Exception as error:  # Paddle's and the runtime's own
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[-200:]}"
            continue
        finally:
            for file in folder.glob("graph.*"):
                file.unlink()
        return by, shape
    raise UsageError(f"{type(model).__name__} can't be made an ONNX graph ({reason})")


def input_shapes(task: Task, max_seq_length: int) -> list[list[int]]:
    """Shapes of a graph's inputs, -1 for any size; first the shapes that not every model can be traced for."""
    options = [task.num_choices] if task.num_choices else []
    return [[-1, *options, -1], [-1, *options, max_seq_length], [1, *options, max_seq_length]]


def check_static(model: paddle.nn.Layer) -> None:
    """Raises UsageError for an architecture that Paddle can't make a static graph of."""
    if not architecture_of(type(model)).in_onnx:
        raise UsageError(f"{type(model).__name__} can't be made a static graph with Paddle {paddle.__version__}")


def static_graph(model: paddle.nn.Layer, path: Path, shape: Sequence[int]) -> None:
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


def _compare(model: paddle.nn.Layer, file: Path, shape: Sequence[int], longest: int) -> str:
    """What ran the graph. Raises UsageError where its outputs are others than the model's."""
    try:
        from onnxruntime import InferenceSession as Runner
        from onnxruntime import __version__ as version

        by = f"onnxruntime {version}"
    except ImportError:
        from onnx.reference import ReferenceEvaluator as Runner

        by = "the reference evaluator of onnx"
    runner = Runner(str(file))
    for width in {longest, min(longest, 9)} if shape[-1] == -1 else {shape[-1]}:
        ids, types = made_up_rows(model, [2 if shape[0] == -1 else 1, *shape[1:-1], width])
        feeds = dict(zip(input_names(model), (ids, types)))
        difference = largest_difference(runner.run(None, feeds), outputs_of(model, ids, types))
        if difference > TOLERANCE:
            raise UsageError(f"{file.name}: its outputs differ by {difference:.1e} of their size from the model's")
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
