"""A fine-tuned model as a static graph, for those who deploy it."""

from __future__ import annotations

import paddle

from cluebench.foundation import atomic, environment
from cluebench.models import unwrapped
from cluebench.training.run import Run


def export(run: Run, model: paddle.nn.Layer) -> None:
    """<output_dir>/export: the model as a static graph, ``paddle.jit.load("…/export/model")``, and its tokenizer.

    Its config.json names what the logits are of (``id2label``).
    Input: ids and token types, int64 [rows, tokens] of any size. Output: logits, float32 [rows, labels].
    """
    if environment.rank() != 0:
        return
    names = ("input_ids", "token_type_ids")
    model.eval()
    graph = paddle.jit.to_static(
        model,
        input_spec=[paddle.static.InputSpec(shape=[None, None], dtype="int64", name=name) for name in names],
        full_graph=True,
    )
    folder = run.output("export")
    with atomic.replacing(folder) as temporary:
        temporary.mkdir()
        paddle.jit.save(graph, str(temporary / "model"))
        run.tokenizer.save_pretrained(str(temporary))
        unwrapped(model).config.save_pretrained(str(temporary))
    run.log.line(f"static graph: {folder / 'model'}")
