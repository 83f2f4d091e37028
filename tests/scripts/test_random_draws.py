"""Who draws from the random generators, and in which order: the model first, then dropout, and nobody else.

Compared with a plain loop, as the benchmark describes it, dropout included: a mask that comes one draw too late gives other
losses from the first step on.
"""

import math
import random

import numpy as np
import pytest

from cluebench.benchmark.tasks import CHOICE, PAIR, SPAN, TASKS
from cluebench.data.source import open_source
from cluebench.features import FeatureRequest, TextEncoder, load_features

pytestmark = pytest.mark.slow

#: PaddleNLP's model of a kind of task, and what is a model setting of it.
MODELS = {
    PAIR: ("SequenceClassification", lambda task: {"num_classes": len(task.labels)}),
    CHOICE: ("MultipleChoice", lambda task: {"num_choices": task.num_choices}),
    SPAN: ("QuestionAnswering", lambda task: {}),
}
SEED, RATE, LENGTH, LIMIT = 7, 1e-3, 48, 30


def plain_losses(task, model_dir, data_dir, batch_size: int, accumulation: int, epochs: int) -> list[float]:
    """The training loss of every step; inputs are ready before anything is seeded."""
    import paddle
    import paddle.nn.functional as F
    from paddlenlp import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
    request = FeatureRequest(task, "train", open_source(data_dir), TextEncoder(tokenizer), LENGTH, LIMIT)
    examples = load_features(request, None)
    random.seed(SEED)
    np.random.seed(SEED)
    paddle.seed(SEED)
    name, settings = MODELS[task.kind]
    model = getattr(transformers, f"AutoModelFor{name}").from_pretrained(model_dir, **settings(task))
    model.train()

    def loss_of(rows):
        batch = {name: paddle.to_tensor(values) for name, values in examples.batch(rows).items()}
        logits = model(batch["input_ids"], batch["token_type_ids"])
        if task.kind == SPAN:
            starts, ends = logits
            of_starts = F.cross_entropy(starts, batch["start_positions"])
            return (of_starts + F.cross_entropy(ends, batch["end_positions"])) / 2
        return F.cross_entropy(logits, batch["labels"])

    sampler = paddle.io.DistributedBatchSampler(range(len(examples)), batch_size // accumulation, shuffle=True)
    schedule = transformers.LinearDecayWithWarmup(
        RATE, math.ceil(len(sampler) / accumulation) * epochs, task.warmup_proportion
    )
    decayed = [p.name for n, p in model.named_parameters() if not any(word in n for word in ["bias", "norm"])]
    optimizer = paddle.optimizer.AdamW(
        learning_rate=schedule,
        epsilon=1e-8,
        parameters=model.parameters(),
        weight_decay=0.01,
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=None if task.kind == SPAN else paddle.nn.ClipGradByGlobalNorm(1.0),
    )
    found = []
    for _ in range(epochs):
        batches = list(sampler)
        for first in range(0, len(batches), accumulation):
            together = batches[first : first + accumulation]
            found.append(0.0)
            for rows in together:
                loss = loss_of(rows) / len(together)
                loss.backward()
                found[-1] += float(loss)
            optimizer.step()
            schedule.step()
            optimizer.clear_grad()
    return found


@pytest.mark.parametrize("name", ["ocnli", "c3", "cmrc2018"])
def test_losses_are_those_of_a_plain_loop_dropout_and_all(name, demo, run):
    """Steps, an incomplete accumulation, schedule, clipping (none in CMRC2018), decay; dev is evaluated in between."""
    flags = ["--batch_size", 8, "--gradient_accumulation_steps", 4, "--num_train_epochs", 2]
    flags += ["--learning_rate", RATE, "--max_seq_length", LENGTH, "--logging_steps", 1, "--save_steps", 3]
    ended = run(name, "out", *flags, "--limit", LIMIT, "--seed", SEED, "--do_train", "--padding")
    expected = plain_losses(TASKS[name], *demo, batch_size=8, accumulation=4, epochs=2)
    assert len(ended.losses) == len(expected) > 5 and "eval loss" in ended.out
    np.testing.assert_allclose(ended.losses, expected, rtol=0, atol=1e-6)  # all digits of a log line


def test_all_three_generators_are_seeded_and_only_paddles_is_drawn_from(run):
    run("tnews", "out", "--max_steps", 3, "--save_steps", 2, "--seed", SEED, "--do_train", "--do_predict")
    assert random.getstate() == random.Random(SEED).getstate()
    assert list(map(str, np.random.get_state())) == list(map(str, np.random.RandomState(SEED).get_state()))
