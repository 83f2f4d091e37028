"""One of several ranks: gradients accumulated over two micro-batches and exchanged, with padding and without.

    python -m paddle.distributed.launch --nproc_per_node 2 tests/models/ranks.py MODEL_DIR

Each rank has rows of its own, as many tokens fewer as its number says. Prints what was compared.
"""

import sys
from contextlib import nullcontext

import numpy as np
import paddle

from cluebench import models
from cluebench.benchmark.tasks import TASKS
from cluebench.models.forward_pass import forward
from cluebench.pretrained.model import Model
from cluebench.training.evaluation import on_device

PAD = 0


def gradients(model: paddle.DataParallel, micro_batches: list[np.ndarray], unpadded: bool) -> dict[str, np.ndarray]:
    model.clear_gradients()
    for number, ids in enumerate(micro_batches, start=1):
        with nullcontext() if number == len(micro_batches) else model.no_sync():
            batch = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
            (logits,) = forward(model, on_device(batch, PAD if unpadded else None))
            (paddle.nn.functional.cross_entropy(logits, paddle.arange(len(ids)) % 3) / len(micro_batches)).backward()
    return {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}


def main() -> None:
    paddle.set_device("cpu")
    paddle.distributed.init_parallel_env()
    rank, random = paddle.distributed.get_rank(), np.random.default_rng(paddle.distributed.get_rank())
    model = models.load_model(TASKS["ocnli"], Model.of(sys.argv[1]))
    model.eval()  # no dropout
    model = paddle.DataParallel(model)
    micro_batches = []
    for lengths in ([17 - rank, 4, 9], [6, 12 - rank, 12]):
        inside = np.arange(max(lengths)) < np.array(lengths)[:, None]
        micro_batches.append(np.where(inside, random.integers(5, 100, inside.shape), 0))
    found, expected = gradients(model, micro_batches, True), gradients(model, micro_batches, False)
    assert found.keys() == expected.keys()
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    apart = max(np.abs(found[name] - expected[name]).max() for name in expected) / largest
    assert apart < 1e-5, apart
    everywhere: list[float] = []
    paddle.distributed.all_gather_object(everywhere, float(np.abs(found["_layers.classifier.weight"]).sum()))
    assert len(set(everywhere)) == 1, everywhere  # exchanged, so the same on both
    print(f"{len(found)} gradients, {apart:.1e} of the largest apart")


if __name__ == "__main__":
    main()
