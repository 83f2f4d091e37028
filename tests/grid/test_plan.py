import csv
from pathlib import Path

import pytest

from cluebench.benchmark.published import published_model, published_models
from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from cluebench.records import identity
from cluebench.records.run_flags import RunFlags, resolved
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.trials import build_plan, shared_flags

FACTS = Path(__file__).resolve().parents[2] / "cluebench" / "benchmark" / "facts"


def test_a_model_has_116_and_18_trials_with_unique_names():
    trials = build_plan([Model.of("ernie-3.0-base-zh")], GridFlags())
    assert len(trials) == 134
    assert sum(trial.row.is_classification for trial in trials) == 116
    assert len({trial.key for trial in trials}) == 134
    assert trials[0].key == "ernie-3.0-base-zh/afqmc/1e-05_16_0.1"


def test_axes_given_replace_the_tasks_own():
    selection = GridFlags(
        tasks=["TNEWS", "c3"], learning_rates=[3e-5], batch_sizes=[16, 32], dropouts=[0.0], seeds=[42, 43]
    )
    names = [f"{trial.task}/{trial.name}" for trial in build_plan([Model.of("m")], selection)]
    assert names == [
        "tnews/3e-05_16_0.0", "tnews/3e-05_16_0.0_seed43", "tnews/3e-05_32_0.0", "tnews/3e-05_32_0.0_seed43",
        "c3/3e-05_16_0.0", "c3/3e-05_16_0.0_seed43", "c3/3e-05_32_0.0", "c3/3e-05_32_0.0_seed43",
    ]  # fmt: skip


def test_best_only_is_the_published_table_for_every_model():
    planned = {
        (trial.model.name, trial.task): tuple(trial.setting)
        for trial in build_plan(list(map(Model.of, published_models())), GridFlags(best_only=True))
    }
    with open(FACTS / "published_hyperparameters.csv", encoding="utf-8") as stream:
        published = {
            (row["paddlenlp_id"], row["task"]): (
                float(row["learning_rate"]),
                int(row["batch_size"]),
                float(row["dropout"]),
            )
            for row in csv.DictReader(stream)
        }
    assert len(published) == 270
    assert planned == published


def test_published_rows_are_whole():
    assert len(published_models()) == 27
    row = published_model("ernie-3.0-medium-zh")
    assert (row.scores["cmrc2018"], row.average, row.layers, row.hidden_size) == ("65.83/87.30", "72.49", 6, 768)
    for row in published_models().values():
        assert set(row.scores) == set(row.best_settings) == set(TASKS)
    assert published_model("my-model") is None


@pytest.mark.parametrize(
    "selection, reported",
    [
        (GridFlags(tasks=["tnews", "sst2"]), "--tasks: unknown task 'sst2'"),
        (GridFlags(tasks=["csl"], batch_sizes=[15]), "CSL: batch size 15 can't be split into 2"),
        (GridFlags(tasks=["c3"], batch_sizes=[1]), "C3: batch size 1"),
        (GridFlags(best_only=True), "--best_only: m has no published settings"),
    ],
)
def test_wrong_selections_name_the_flag(selection, reported):
    with pytest.raises(UsageError, match=reported.replace("(", r"\(")):
        build_plan([Model.of("m")], selection)


def model_directory(path, layers=2):
    path.mkdir(parents=True)
    (path / "config.json").write_text(f'{{"num_hidden_layers": {layers}, "hidden_size": 128, "vocab_size": 900}}')
    return path


def test_two_models_must_not_share_a_run_directory(tmp_path):
    first, second = model_directory(tmp_path / "a" / "bert"), model_directory(tmp_path / "b" / "bert")
    with pytest.raises(UsageError, match="would share the run directory bert/"):
        build_plan([Model.of(first), Model.of(second)], GridFlags(tasks=["tnews"]))
    with pytest.raises(UsageError, match="would share the run directory bert/"):
        build_plan([Model.of(first), Model.of("bert")], GridFlags(tasks=["tnews"]))


def test_hashes_are_those_the_scripts_compute():
    trial = Trial(Model.of("ernie-3.0-base-zh"), "tnews", Setting(3e-5, 32, 0.1), 43)
    settings = GridFlags(num_train_epochs=1, max_steps=10, limit=100, amp="bf16")
    planned = trial.configuration(shared_flags(settings), "0123456789abcdef")
    typed = RunFlags(
        model_name_or_path=trial.model, do_train=True, learning_rate=3e-5, batch_size=32, dropout=0.1, seed=43,
        num_train_epochs=1, max_steps=10, limit=100, amp="bf16", max_seq_length=128, warmup_proportion=0.1,
        save_steps=100, max_grad_norm=1.0, output_dir="elsewhere",
    )  # fmt: skip
    flags = resolved(typed, TASKS["tnews"])
    script = identity.configuration(TASKS["tnews"], flags, "ernie-3.0-base-zh", "0123456789abcdef")
    assert identity.configuration_hash(planned) == identity.configuration_hash(script)


@pytest.mark.parametrize(
    "change",
    [{"num_train_epochs": 4}, {"max_steps": 5}, {"limit": 7}, {"amp": "fp16"}, {"padding": True}],
    ids=lambda change: next(iter(change)),
)
def test_what_moves_a_score_makes_another_trial(change):
    trial = Trial(Model.of("m"), "tnews", Setting(3e-5, 32, 0.1))
    usual = trial.configuration(shared_flags(GridFlags()), "a" * 16)
    assert trial.configuration(shared_flags(GridFlags(**change)), "a" * 16) != usual
    assert trial.configuration(shared_flags(GridFlags()), "b" * 16) != usual


def test_where_files_are_makes_no_other_trial():
    trial = Trial(Model.of("m"), "tnews", Setting(3e-5, 32, 0.1))
    elsewhere = GridFlags(data_dir="/a", cache_dir="/b", offline=True, save_best_model=True)
    here, there = (trial.configuration(shared_flags(flags), "a" * 16) for flags in (GridFlags(), elsewhere))
    assert here == there
