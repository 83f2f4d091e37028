"""Every published architecture runs every task: train, save, load, evaluate to the same number, predict."""

from pathlib import Path

import pytest

from cluebench.benchmark.tasks import TASKS, Task
from cluebench.records.result import ModelSize, Result
from tests.models.conftest import ARCHITECTURES, COMMON, LATER

pytestmark = pytest.mark.slow


#: One task of each kind; what else differs between tasks has nothing to do with the architecture.
OF_EACH_KIND = ("tnews", "ocnli", "cmrc2018", "c3", "chid")
OTHERS = [name for name in TASKS if name not in OF_EACH_KIND]


@pytest.mark.parametrize(
    ("prefix", "name"),
    [(prefix, name) for prefix in ARCHITECTURES for name in OF_EACH_KIND] + [("Ernie", name) for name in OTHERS],
)
def test_every_architecture_does_each_kind_of_task(prefix, name, architectures, little_data, run_script, tmp_path):
    import paddle

    result = does(TASKS[name], architectures[prefix], little_data, run_script, tmp_path)
    written = Path(architectures[prefix])  # without a head, so every array counts
    parameters = sum(array.size for array in paddle.load(str(written / "model_state.pdparams")).values())
    layers, width = COMMON["num_hidden_layers"], COMMON["hidden_size"]
    without_pooler = parameters - width * (width + 1)  # PaddleNLP builds RoBERTa without it where the head is another
    assert result.model_size in [ModelSize(layers, width, number) for number in (parameters, without_pooler)]


@pytest.mark.parametrize("name", OF_EACH_KIND)
@pytest.mark.parametrize("prefix", LATER)
def test_later_architectures_do_each_kind_of_task(prefix, name, later_architectures, little_data, run_script, tmp_path):
    does(TASKS[name], later_architectures[prefix], little_data, run_script, tmp_path)


@pytest.mark.parametrize("name", OTHERS)
def test_every_task_with_a_tokenizer_file(name, later_architectures, little_data, run_script, tmp_path):
    does(TASKS[name], later_architectures["XLMRoberta"], little_data, run_script, tmp_path)


def does(task: Task, model: str, data: str, run_script, tmp_path: Path) -> Result:
    """Trains, predicts, evaluates the saved model to the same score, and predicts the same with it."""
    out = tmp_path / "out"
    common = ["--data_dir", data, "--device", "cpu", "--max_seq_length", 48, "--offline"]
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
    return result
