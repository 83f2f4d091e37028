"""make_submission.py with the scripts themselves: from kept models to a zip."""

import json
import zipfile
from pathlib import Path

import pytest

from cluebench import submission
from cluebench.benchmark.tasks import TASKS
from cluebench.foundation import repository
from cluebench.pretrained.model import Model
from cluebench.submission import kept as kept_models
from tests.submission import independent
from tests.submission.made_up import kept

pytestmark = pytest.mark.slow
COMMAND = "grid_search_tools/make_submission.py"


def in_this_process(run_script):
    """Runs what make_submission would start as a process."""

    def predict(model, flags, output):
        command = kept_models.prediction_command(model, flags, output)
        ended = run_script(Path(command[2]).relative_to(repository.ROOT), *command[3:])
        return "" if ended.code == 0 else ended.err

    return predict


def test_from_kept_models_of_all_ten_tasks_to_a_zip(demo, run_script, monkeypatch, tmp_path):
    """Each script's --do_predict on a model in a run directory, in this process; the zip passes the protocol's check."""
    from cluebench import models

    runs, data = tmp_path / "runs", Path(demo[1])
    for task in TASKS.values():
        folder = kept(runs, task.name, "3e-05_32_0.1", (1.0, 2.0) if task.metric == "em_f1" else 1.0, model=False)
        tokenizer = models.load_tokenizer(Model.of(demo[0]))
        models.save_model(models.load_model(task, Model.of(demo[0])), tokenizer, folder)

    monkeypatch.setattr(kept_models, "predict", in_this_process(run_script))
    arguments = [runs, "--output", tmp_path / "z.zip", "--data_dir", data, "--device", "cpu", "--version", "all"]
    ended = run_script(COMMAND, *arguments)
    assert ended.code == 0, ended.out + ended.err
    assert independent.accept(tmp_path / "z.zip", data) == set(submission.FILES)


def test_a_real_prediction_process(demo, run_script, tmp_path):
    from cluebench import models

    folder = kept(tmp_path / "runs", "afqmc", "3e-05_32_0.1", 50.0, model=False)
    models.save_model(
        models.load_model(TASKS["afqmc"], Model.of(demo[0])), models.load_tokenizer(Model.of(demo[0])), folder
    )
    arguments = [
        tmp_path / "runs",
        "--output",
        tmp_path / "z.zip",
        "--data_dir",
        demo[1],
        "--device",
        "cpu",
        "--offline",
    ]
    assert run_script(COMMAND, *arguments).code == 0
    assert independent.accept(tmp_path / "z.zip", Path(demo[1])) == {"afqmc_predict.json"}
    assert "afqmc_predict.json" in (folder / "predict.log").read_text()


#: Lines, tags or questions in the files of the official test sets (PaddleNLP's data sets; CHID differs in the archives).
OFFICIAL_SIZES = {
    "tnews11_predict.json": 10000, "tnews10_predict.json": 10000, "iflytek_predict.json": 2600,
    "ocnli_50k_predict.json": 3000, "cluewsc11_predict.json": 2574, "cluewsc10_predict.json": 290,
    "c311_predict.json": 1625, "c310_predict.json": 3892, "cmrc2018_predict.json": 2000,
}  # fmt: skip


def test_predictions_for_the_official_test_sets(demo, run_script, monkeypatch, tmp_path, clue_data_dir):
    """Made by the scripts, checked by the protocol: every official line, tag and question, once. Inputs are cut short."""
    from cluebench import models

    runs, data = tmp_path / "runs", unpacked(clue_data_dir, tmp_path / "data")
    tasks = [task for task in TASKS.values() if (data / f"{task.name}_public").is_dir()]
    if not tasks:
        pytest.skip(f"{clue_data_dir} holds no archives")
    small = smaller(demo[0], tmp_path / "small")
    for task in tasks:
        length = 96 if task.kind == "span" else 16
        score = (1.0, 2.0) if task.metric == "em_f1" else 1.0
        folder = kept(runs, task.name, "3e-05_32_0.1", score, model=False, max_seq_length=length)
        models.save_model(models.load_model(task, Model.of(small)), models.load_tokenizer(Model.of(small)), folder)
    monkeypatch.setattr(kept_models, "predict", in_this_process(run_script))
    arguments = [runs, "--output", tmp_path / "z.zip", "--data_dir", data, "--device", "cpu", "--version", "all"]
    ended = run_script(COMMAND, *arguments)
    assert ended.code == 0, ended.out + ended.err
    names = independent.accept(tmp_path / "z.zip", data)
    assert names == {test.submission for task in tasks for test in task.test_sets}
    with zipfile.ZipFile(tmp_path / "z.zip") as archive:
        for name in names & set(OFFICIAL_SIZES):
            text = archive.read(name).decode()
            size = len(json.loads(text)) if name == "cmrc2018_predict.json" else text.count("\n")
            assert size == OFFICIAL_SIZES[name], name


def smaller(model: str, folder: Path) -> str:
    """A model of the same kind and vocabulary, with one layer of width 16."""
    from paddlenlp.transformers import ErnieConfig, ErnieModel

    from cluebench import models

    config = ErnieConfig.from_pretrained(model)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 16, 32, 1
    models.save_model(ErnieModel(config), models.load_tokenizer(Model.of(model)), folder)
    return str(folder)


def unpacked(source: str, folder: Path) -> Path:
    """The archives of a data directory, unpacked: the check reads plain files."""
    for archive in Path(source).glob("*_public.zip"):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder / archive.stem)
    return folder
