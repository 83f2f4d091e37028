"""Which tasks a model can do, reported before any trial."""

import re
import shutil
from dataclasses import replace

import pytest

from cluebench.benchmark.tasks import SPAN, TASKS
from cluebench.pretrained.model import Model
from tests.models.conftest import COMMON, vocabulary, write_model
from tests.models.test_written_by import WRITTEN_BY

pytestmark = pytest.mark.slow

WARM_UP = "grid_search_tools/warmup_dataset_and_model.py"


def test_too_few_positions(models, architectures):
    found = models.preflight(Model.of(architectures["Bert"]), TASKS.values())
    assert found.pop("chid") is None
    for name, reason in found.items():
        length = TASKS[name].max_seq_length
        assert reason == f"its inputs have up to {length} tokens, the model has positions for 64"


def test_a_head_paddlenlp_lacks(models, tmp_path):
    """SKEP is an ERNIE inside, but has no span head in PaddleNLP; the multiple-choice head is the generic one."""
    import paddlenlp.transformers as transformers

    tokens = vocabulary("中文")
    config = transformers.SkepConfig(**{**COMMON, "vocab_size": len(tokens), "max_position_embeddings": 512})
    transformers.SkepModel(config).save_pretrained(str(tmp_path))
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    found = models.preflight(Model.of(tmp_path), TASKS.values())
    assert {name for name, reason in found.items() if reason} == {
        task.name for task in TASKS.values() if task.kind == SPAN
    }
    assert found["cmrc2018"] == "PaddleNLP has no SkepForQuestionAnswering, so it can't do CMRC2018"


def test_embeddings_of_another_width_than_the_layers(models, tmp_path):
    """ERNIE-Gram's configuration allows it, its model does not."""
    folder = write_model(tmp_path, "ErnieGram", max_position_embeddings=512, embedding_size=48)
    found = models.preflight(Model.of(folder), TASKS.values())
    assert all("ErnieGram" in reason and "48" in reason for reason in found.values())


@pytest.mark.parametrize("prefix, name", [("Ernie", "layers.2.norm2.bias"), ("NeZha", "layer.2.layer_norm.bias")])
def test_weights_are_checked_to_the_last_layer(prefix, name, models, tmp_path):
    import paddle

    folder = write_model(tmp_path, prefix, max_position_embeddings=512, num_hidden_layers=3)
    state = paddle.load(str(folder / "model_state.pdparams"))
    del state[f"encoder.{name}"]
    paddle.save(state, str(folder / "model_state.pdparams"))
    found = models.preflight(Model.of(folder), TASKS.values())
    assert all(
        re.search(rf"lacks 1 of the \d+ arrays .*encoder\.{re.escape(name)}", reason) for reason in found.values()
    )


def test_warm_up_stops_and_says_which_task_and_why(architectures, little_data, run_command, tmp_path):
    common = ["--data_dir", little_data, "--cache_dir", tmp_path]
    ended = run_command(WARM_UP, architectures["Roberta"], *common, "--tasks", "chid", "c3", "tnews")
    lines = ended.err.strip().splitlines()
    model = architectures["Roberta"]
    assert ended.code == 2
    assert lines == [
        f"{model} can't do C3: its inputs have up to 512 tokens, the model has positions for 64",
        f"{model} can't do TNEWS: its inputs have up to 128 tokens, the model has positions for 64",
        f"error: {model} can't do C3, TNEWS: --tasks CHID runs the others",
    ]
    assert not list(tmp_path.iterdir())
    assert run_command(WARM_UP, architectures["Roberta"], *common, "--tasks", "chid").code == 0


def test_warm_up_refuses_a_model_before_it_looks_for_data(run_command, tmp_path):
    ended = run_command(WARM_UP, tmp_path / "nowhere", "--data_dir", tmp_path)
    assert ended.code == 2 and ended.err.count("\n") == 1 and "nowhere: no such directory" in ended.err


def test_warm_up_names_every_task_without_data_and_goes_on_with_the_others(
    architectures, little_data, run_command, tmp_path
):
    model, data = architectures["Roberta"], tmp_path / "data"
    shutil.copytree(little_data, data)
    shutil.rmtree(data / "tnews_public")
    (data / "c3_public" / "m-dev.json").unlink()
    ended = run_command(WARM_UP, model, "--data_dir", data, "--tasks", "tnews", "chid", "c3")
    tnews, c3, error = ended.err.splitlines()
    assert ended.code == 2 and "tnews: train.json is missing" in tnews and "c3: m-dev.json is missing" in c3
    assert error == "error: no whole data of TNEWS, C3: --tasks CHID runs the others"
    ended = run_command(WARM_UP, model, "--data_dir", data, "--tasks", "tnews")
    assert ended.err.splitlines()[-1] == "error: no whole data of TNEWS: name another place by --data_dir"


def test_warm_up_refuses_cards_that_paddle_was_not_built_for(architectures, little_data, run_command, monkeypatch):
    import paddle

    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: False)
    ended = run_command(
        WARM_UP, architectures["Roberta"], "--data_dir", little_data, "--tasks", "chid", "--device", "gpu"
    )
    assert ended.code == 2 and "--device gpu: this PaddlePaddle was built for CPUs" in ended.err


def test_only_chid_needs_a_mask(models, tmp_path):
    """PaddleNLP puts a [MASK] that the vocabulary lacks behind its end, for which there is no embedding."""
    tokens = [token for token in vocabulary("中文") if token != "[MASK]"]
    folder = write_model(tmp_path, "Bert", tokens=tokens, max_position_embeddings=512)
    found = models.preflight(Model.of(folder), TASKS.values())
    assert found.pop("chid") == "its vocabulary has no [MASK], which stands for the blanks"
    assert not any(found.values())


def test_a_model_that_takes_padding_for_text(models, monkeypatch):
    """PaddleNLP's ALBERT makes no mask from padding; without ours every score would depend on the batch."""
    from cluebench.models import mending

    folder = WRITTEN_BY / "tf5_albert_backbone"
    tnews = replace(TASKS["tnews"], max_seq_length=30)
    assert models.preflight(Model.of(folder), [tnews]) == {"tnews": None}
    monkeypatch.setattr(mending, "_mask", lambda pad, given: {})
    found = models.preflight(Model.of(folder), [tnews])
    assert found["tnews"] == "its outputs depend on the padding beside a text, or are no numbers"


def test_a_model_that_can_not_be_trained(models, monkeypatch):
    """Paddle 3.3 refuses the backward pass of PaddleNLP's DeBERTa dropout, which ours replaces."""
    from cluebench.models import mending

    monkeypatch.setattr(mending.deberta_v2, "StableDropout", type("NoDropout", (), {}))
    found = models.preflight(Model.of(WRITTEN_BY / "tf5_debertav2_backbone"), [replace(TASKS["c3"], max_seq_length=30)])
    assert found["c3"] and "\n" not in found["c3"]
