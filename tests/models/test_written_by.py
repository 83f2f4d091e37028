"""Every directory in written_by/ gives what the library computed that wrote it, or is refused in one line.

See written_by/make.py for how they were made and what ``expected.npz`` holds.
"""

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS, Task
from cluebench.features import TextEncoder
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model

pytestmark = pytest.mark.slow

WRITTEN_BY = Path(__file__).parent / "written_by"
DIRECTORIES = sorted(file.parent.name for file in WRITTEN_BY.glob("*/expected.npz"))

#: One task of each kind that has a head of its own, at a length that the little models have positions for.
SHORT = {name: replace(TASKS[name], max_seq_length=30) for name in ("ocnli", "tnews", "c3", "chid", "cmrc2018")}

#: Directory → what the one line says that refuses it for all tasks.
REFUSED = {
    "tf4_bert_decoder": '"is_decoder" is True, which',
    "tf4_bert_pruned": '"pruned_heads" is .*, which',
    "tf4_bert_relative_positions": '"position_embedding_type" is relative_key, which',
    "tf5_bart_refused": "BartForConditionalGeneration generates text",
    "tf5_bert_fp16_variant": r"but model\.fp16\.safetensors, which would have to be renamed",
    "tf5_bert_is_decoder": '"is_decoder" is True, which',
    "tf5_convbert_backbone": "ConvBertModel can't be fine-tuned here; encoders",
    "tf5_gpt2_refused": "GPT2LMHeadModel generates text",
    "tf5_mpnet_backbone": "MPNetModel can't be fine-tuned here; encoders",
    "tf5_qwen2_refused": "Qwen2ForCausalLM generates text",
    "tf5_t5_refused": "T5ForConditionalGeneration generates text",
}

#: Directory with a head → why that can't be evaluated, though the model can be fine-tuned.
ONLY_TO_FINE_TUNE = {
    "tf5_bert_chinese_labels": "labels are 蕴含, 矛盾, 中立, not entailment, contradiction, neutral as in OCNLI",
    "tf5_bert_other_labels": "labels are positive, negative, mixed, not entailment, contradiction, neutral as in OCNLI",
    "tf5_bert_regression": r"another head \(classifier.weight of shape \[16, 1\]\)",
    "tf5_bert_two_labels": r"another head \(classifier.weight of shape \[16, 2\]\)",
    "tf5_roformer_choice": "reads the last token, PaddleNLP's the first",
}

#: Directories with a head that Transformers computes alike.
SAME_HEADS = [
    name
    for name in DIRECTORIES
    if re.fullmatch(r"tf\d_.*_(classification|choice|span)", name) and name not in ONLY_TO_FINE_TUNE
]

#: Directory whose outputs differ → what a notice says of it.
DIFFERENT = dict.fromkeys(
    ("pn2_roberta_classification", "pn3_roberta_classification"), "positions count from 0 here, but from 1 in PaddleNLP"
)


def expectation(name: str) -> dict[str, Any]:
    with np.load(WRITTEN_BY / name / "expected.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", DIRECTORIES)
def test_preflight(models, name):
    """As warm-up and doctor.py find it."""
    try:
        found = models.preflight(Model.of(WRITTEN_BY / name), SHORT.values(), offline=True)
    except UsageError as error:
        found = {"every task": str(error)}
    for task, reason in found.items():
        if name in REFUSED:
            assert reason and "\n" not in reason and re.search(REFUSED[name], reason), f"{task}: {reason}"
        else:
            assert reason is None, f"{task}: {reason}"


@pytest.mark.parametrize("name", [name for name in DIRECTORIES if name not in REFUSED])
def test_token_ids(models, name):
    """The library's, special tokens and padding left out."""
    expected = expectation(name)
    tokenizer = models.load_tokenizer(Model.of(WRITTEN_BY / name))
    special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    encoder = TextEncoder(tokenizer)
    ids = expected["input_ids"].reshape(-1, expected["input_ids"].shape[-1])
    for texts, row in zip(expected["texts"].reshape(-1, 2).tolist(), ids):
        made = [number for text in encoder.encode(texts) for number in text.tolist()]
        assert made == row[~np.isin(row, special)].tolist(), texts


@pytest.mark.parametrize("name", [name for name in DIRECTORIES if name not in REFUSED])
def test_outputs(models, name, capfd):
    expected = expectation(name)
    if name in ONLY_TO_FINE_TUNE:
        with pytest.raises(UsageError, match=ONLY_TO_FINE_TUNE[name]) as raised:
            outputs_of(models, name, expected)
        assert "\n" not in str(raised.value)
        return
    made = outputs_of(models, name, expected)
    printed = capfd.readouterr().err
    if name in DIFFERENT:
        assert DIFFERENT[name] in printed
        return
    assert_equal(made, expected)


def test_padding_has_its_own_embedding(models):
    """As in Transformers, for a text itself may contain [PAD]. It is 0 in PaddleNLP and in the published scores."""
    import paddle

    from cluebench.models.architectures import architecture_of

    for name in sorted(name for name in SAME_HEADS if name.endswith("_classification")):
        model = Model.of(WRITTEN_BY / name)
        loaded = models.load_model(SHORT["ocnli"], model, tokenizer=models.load_tokenizer(model))
        if architecture_of(type(loaded)).published:
            continue
        words = loaded.base_model.embeddings.word_embeddings
        words.weight.set_value(paddle.ones_like(words.weight))
        pad = json.loads((WRITTEN_BY / name / "config.json").read_text())["pad_token_id"]
        assert words(paddle.to_tensor([pad])).min() == 1, name


def assert_equal(every: list[dict[str, np.ndarray]], expected: dict[str, Any]) -> None:
    for made in every:
        assert made.keys() & expected.keys()
        for key in made.keys() & expected.keys():
            array, wanted = made[key], expected[key]
            if key == "logits" and len(expected["labels"]):
                array = array[:, columns(SHORT["ocnli"], expected["labels"].tolist())]
            if key != "logits":  # what is computed at padding is nobody's
                real = expected["attention_mask"] != 0
                wanted, array = wanted[real], array[real]
            assert np.abs(array - wanted).max() <= 1e-5 * np.abs(wanted).max(), key


def columns(task: Task, labels: list[str]) -> list[int]:
    """Where our head has each of the library's labels."""
    names = [label.lower() for label in labels]
    return list(range(len(names))) if names[0].startswith("label_") else [task.labels.index(label) for label in names]


def outputs_of(models, name: str, expected: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """As this project computes them: with padding, and without it where it is left out."""
    import paddle

    task, model = SHORT[str(expected["task"]) or "ocnli"], Model.of(WRITTEN_BY / name)
    trained = "hidden" not in expected
    loaded = models.load_model(task, model, tokenizer=models.load_tokenizer(model), head_required=trained)
    loaded.eval()
    batch = {key: expected[key] for key in ("input_ids", "token_type_ids")}
    if not trained:
        parameters = inspect.signature(loaded.base_model.forward).parameters
        with paddle.no_grad():
            hidden = loaded.base_model(
                **{key: paddle.to_tensor(ids) for key, ids in batch.items() if key in parameters}
            )
        return [{"hidden": (hidden if isinstance(hidden, paddle.Tensor) else hidden[0]).numpy()}]
    names, made = ("start", "end") if "start" in expected else ("logits",), []
    for padding in {None, models.padding_of(loaded)}:
        outputs = models.forward(loaded, models.on_device(batch, padding))
        if "factors" in expected:
            assert_gradients(loaded, outputs, WRITTEN_BY / name, expected)
        made.append({key: output.numpy() for key, output in zip(names, outputs, strict=True)})
    return made


def assert_gradients(model, outputs, folder: Path, expected: dict[str, Any]) -> None:
    """Of the sum of factors times outputs, under the library's names."""
    import paddle

    from cluebench.models.architectures import in_hugging_face
    from tests.models.written_by.make import sums

    model.clear_gradients()
    (paddle.stack(outputs) * paddle.to_tensor(expected["factors"])).sum().backward()
    tokens = model.base_model.embeddings.word_embeddings.weight
    pad = json.loads((folder / "config.json").read_text())["pad_token_id"]
    weights = [(parameter, parameter.numpy()) for parameter in model.parameters()]
    for parameter, weight in weights:
        gradient = np.zeros_like(weight) if parameter.grad is None else parameter.grad.numpy()
        if parameter is tokens:
            gradient[pad] = 0  # PyTorch gives this row no gradient
        parameter.set_value(gradient)
    found = in_hugging_face(model)
    for parameter, weight in weights:
        parameter.set_value(weight)
    gradients = np.concatenate([sums(found[name]) for name in expected["parameters"]])
    assert len(expected["parameters"]) > 10
    assert np.abs(gradients - expected["gradients"]).max() <= 1e-5 * np.abs(expected["gradients"]).max()
