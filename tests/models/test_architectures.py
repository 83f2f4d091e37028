"""Every architecture trains, saves, loads, evaluates to the same number and predicts, with each of its heads."""

from pathlib import Path

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records.result import ModelSize, Result
from tests.models.conftest import ARCHITECTURES, COMMON, LATER, write_model

pytestmark = pytest.mark.slow

#: A task with each kind of head, and a blank in a tokenizer.json; test_preflight and test_written_by try all kinds of task.
CASES = [(prefix, name) for prefix in [*ARCHITECTURES, *LATER] for name in ("ocnli", "cmrc2018", "c3")]
CASES += [("XLMRoberta", "chid")]


@pytest.mark.parametrize("prefix, name", CASES)
def test_every_architecture_does_each_kind_of_task(prefix, name, architectures, little_data, run_script, tmp_path):
    import paddle

    task, out = TASKS[name], tmp_path / "out"
    model = architectures.get(prefix) or str(write_model(tmp_path / "model", prefix))
    common = ["--data_dir", little_data, "--device", "cpu", "--max_seq_length", 48, "--offline"]
    common += ["--task_name", task.name] if task.is_classification else []
    trained = run_script(
        task.script, *common, "--model_name_or_path", model, "--output_dir", out, "--batch_size", 4,
        "--learning_rate", 1e-3, "--dropout", 0.2, "--max_steps", 2, "--logging_steps", 1, "--do_train", "--do_predict",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    result = Result.read(out / "result.json")
    assert result.status == "done" and result.total_steps == 2 and result.dev_curve[-1].step == 2
    assert all((out / test.submission).stat().st_size > 0 for test in task.test_sets)
    again = run_script(
        task.script, *common, "--model_name_or_path", out, "--output_dir", tmp_path / "again", "--do_eval", "--do_predict",
        "--result_json", tmp_path / "again.json",
    )  # fmt: skip
    assert again.code == 0, again.err
    evaluated = Result.read(tmp_path / "again.json")
    assert evaluated.best_score == result.best_score
    assert evaluated.dev_curve[-1].loss == pytest.approx(result.dev_curve[-1].loss, abs=1e-6)
    for test in task.test_sets:
        assert (tmp_path / "again" / test.submission).read_bytes() == (out / test.submission).read_bytes()
    if prefix in ARCHITECTURES:  # written without a head, so every array counts
        arrays = paddle.load(str(Path(model) / "model_state.pdparams")).values()
        layers, width = COMMON["num_hidden_layers"], COMMON["hidden_size"]
        parameters = sum(array.size for array in arrays)
        without_pooler = parameters - width * (width + 1)  # PaddleNLP builds some heads without it
        assert result.model_size in [ModelSize(layers, width, number) for number in (parameters, without_pooler)]
