"""A fine-tuned model as a static graph, for deployment."""

from contextlib import suppress

import paddle

from cluebench import models
from cluebench.foundation import atomic, environment
from cluebench.training.run import Run


def export(run: Run, model: paddle.nn.Layer) -> None:
    """<output_dir>/export: the model as a static graph, ``paddle.jit.load("…/export/model")``, and its tokenizer.

    Its config.json names the label of each logit (``id2label``). Input: ids and, where the model has them, token types,
    int64 [rows, tokens], of any size where Paddle can trace the model so. Output: logits, float32 [rows, labels].
    """
    if environment.rank() != 0:
        return
    folder = run.output("export")
    *shapes, last = models.input_shapes(run.task, run.flags.max_seq_length)
    with atomic.replacing(folder) as temporary:
        temporary.mkdir()
        for shape in shapes:
            with suppress(ValueError, AssertionError):  # Paddle's: of an architecture that needs sizes
                models.static_graph(model, temporary / "model", shape)
                break
        else:
            models.static_graph(model, temporary / "model", last)
        run.tokenizer.save_pretrained(str(temporary))
        models.unwrapped(model).config.save_pretrained(str(temporary))
    run.log.line(f"static graph: {folder / 'model'}")
