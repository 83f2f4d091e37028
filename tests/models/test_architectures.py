"""Every architecture trains, saves, loads, evaluates to the same number and predicts, with each of its heads."""

from pathlib import Path

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records.result import ModelSize
from tests.models.conftest import ARCHITECTURES, COMMON, LATER, write_model

pytestmark = pytest.mark.slow

#: A task with each kind of head, and a blank in a tokenizer.json; test_preflight and test_written_by try all kinds of task.
CASES = [(prefix, name) for prefix in [*ARCHITECTURES, *LATER] for name in ("ocnli", "cmrc2018", "c3")]
CASES += [("XLMRoberta", "chid")]


@pytest.mark.parametrize("prefix, name", CASES)
def test_every_architecture_does_each_kind_of_task(prefix, name, architectures, run, tmp_path):
    import paddle

    model = architectures.get(prefix) or str(write_model(tmp_path / "model", prefix))
    flags = ["--batch_size", 4, "--learning_rate", 1e-3, "--dropout", 0.2, "--max_steps", 2, "--logging_steps", 1]
    common = ["--max_seq_length", 48, "--offline", "--do_predict"]
    trained = run(name, "out", "--model_name_or_path", model, *common, *flags, "--do_train")
    result, out, again = trained.result, trained.folder, tmp_path / "again"
    assert result.status == "done" and result.total_steps == 2 and result.dev_curve[-1].step == 2
    flags = ["--model_name_or_path", out, "--result_json", again / "result.json"]
    evaluated = run(name, again, *common, *flags, "--do_eval").result
    assert evaluated.best_score == result.best_score
    assert evaluated.dev_curve[-1].loss == pytest.approx(result.dev_curve[-1].loss, abs=1e-6)
    for test in TASKS[name].test_sets:
        assert (again / test.submission).read_bytes() == (out / test.submission).read_bytes() != b""
    if prefix in ARCHITECTURES:  # written without a head, so every array counts
        arrays = paddle.load(str(Path(model) / "model_state.pdparams")).values()
        layers, width = COMMON["num_hidden_layers"], COMMON["hidden_size"]
        parameters = sum(array.size for array in arrays)
        without_pooler = parameters - width * (width + 1)  # PaddleNLP builds some heads without it
        assert result.model_size in [ModelSize(layers, width, number) for number in (parameters, without_pooler)]
