"""export_model.py: what it writes computes what the model computes, as Transformers and ONNX runtimes see it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cluebench.benchmark.tasks import TASKS
from cluebench.pretrained.model import Model
from tests.models.conftest import changed, write_model
from tests.models.test_written_by import SAME_HEADS, WRITTEN_BY, expectation

pytestmark = pytest.mark.slow
TOOL = "grid_search_tools/export_model.py"


def tuned(folder: Path, prefix: str, name: str) -> Path:
    """As save_model leaves a model that was fine-tuned for a task."""
    task = TASKS[name]
    head = {"ocnli": "ForSequenceClassification", "c3": "ForMultipleChoice", "cmrc2018": "ForQuestionAnswering"}[name]
    write_model(folder, prefix, head, num_labels=len(task.labels or "12"), num_choices=task.num_choices or 2)
    labels = {"id2label": dict(enumerate(task.labels))} if task.labels else {}
    return changed(folder, finetuning_task=name, **labels)


@pytest.mark.parametrize("name", SAME_HEADS)
def test_weights_and_settings_go_back_to_where_they_came_from(models, name):
    """From Transformers' directory to a model, and back to the same arrays and settings."""
    from cluebench.models import export

    source, task = WRITTEN_BY / name, TASKS[str(expectation(name)["task"])]
    model, original = models.load_model(task, Model.of(source)), load_file(source / "model.safetensors")
    weights = export.in_hugging_face(model)
    for key, array in original.items():
        unused = "embed_positions" in key or "pooler" in key and key not in weights
        if not unused:  # by this head
            np.testing.assert_array_equal(weights[key], array)
    assert all("pooler" in key for key in weights.keys() - original.keys())
    written = json.loads((source / "config.json").read_text())
    config = export._configuration(model, task)
    assert config["model_type"] == written["model_type"] and config["architectures"] == written["architectures"]
    general = {"id2label", "label2id", "transformers_version", "use_cache", "is_decoder", "add_cross_attention"}
    general |= {"tie_word_embeddings", "embedding_size", "pad_token_id", "bos_token_id", "eos_token_id", "dtype"}
    for key in written.keys() - general:
        assert config.get(key, written[key]) == written[key], key


@pytest.mark.parametrize("prefix, name", [("Roberta", "ocnli"), ("Ernie", "c3"), ("XLMRoberta", "cmrc2018")])
def test_huggingface(prefix, name, run_command, tmp_path):
    model = tuned(tmp_path / "model", prefix, name)
    ran = run_command(TOOL, model, "--format", "huggingface", "--output", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert ran.out.count("\n") == 1 and "read back" in ran.out
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    if TASKS[name].labels:
        assert list(config["id2label"].values()) == list(TASKS[name].labels)


@pytest.mark.parametrize("prefix, name", [("Roberta", "ocnli"), ("DistilBert", "cmrc2018"), ("ModernBert", "c3")])
def test_onnx(models, prefix, name, run_command, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")

    from cluebench.models.export import largest_difference, made_up_batch, outputs_of

    folder = tuned(tmp_path / "model", prefix, name)
    ran = run_command(TOOL, folder, "--format", "onnx", "--output", tmp_path / "out", "--max_seq_length", 24)
    assert ran.code == 0, ran.err
    assert "onnxruntime" in ran.out
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    model = models.load_model(TASKS[name], Model.of(folder), head_required=True)
    model.eval()
    options = [TASKS[name].num_choices] if TASKS[name].num_choices else []
    batch = made_up_batch(model, [3, *options, 24])
    found = session.run(None, {asked.name: batch[asked.name] for asked in session.get_inputs()})
    assert largest_difference(found, outputs_of(model, batch)) < 1e-5


@pytest.mark.parametrize(
    "prefix, layout, reason",
    [("ErnieGram", "huggingface", "Transformers has no ErnieGram"), ("DebertaV2", "onnx", "static graph")],
)
def test_what_can_not_be_written_is_reported_in_one_line(prefix, layout, reason, run_command, tmp_path):
    model = tuned(tmp_path / "model", prefix, "ocnli")
    ran = run_command(TOOL, model, "--format", layout, "--output", tmp_path / "out")
    assert ran.code == 2 and reason in ran.err and not (tmp_path / "out").exists()


def test_a_directory_that_names_no_task_needs_one(run_command, tmp_path):
    model = write_model(tmp_path / "model", "Bert")
    ran = run_command(TOOL, model, "--format", "onnx", "--output", tmp_path / "out")
    assert ran.code == 2 and "--task" in ran.err
