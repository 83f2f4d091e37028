import csv
from pathlib import Path
from typing import get_args

import pytest

from cluebench.benchmark.published import published_model, published_models
from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.foundation import flags, resource_limits
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from cluebench.records import identity
from cluebench.records.grid_file import TrialState
from cluebench.records.run_flags import RunFlags, resolved
from cluebench.records.trial import Trial
from cluebench.scheduler.plan import grid_flags
from cluebench.scheduler.plan.grid_flags import GridFlags, completed
from cluebench.scheduler.plan.jobs import State
from cluebench.scheduler.plan.trials import build_plan, shared_flags
from tests.simulated import job_of
from tests.simulated import trials as planned

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
    counting = {"num_train_epochs": 1, "max_steps": 10, "limit": 100, "amp": "bf16", "padding": True}
    elsewhere = {"data_dir": "/a", "cache_dir": "/b", "offline": True, "save_best_model": True}
    settings = GridFlags(**counting, **elsewhere)
    planned = trial.configuration(shared_flags(settings), "0123456789abcdef")
    typed = RunFlags(
        model_name_or_path=trial.model, do_train=True, learning_rate=3e-5, batch_size=32, dropout=0.1, seed=43,
        max_seq_length=128, warmup_proportion=0.1, save_steps=100, max_grad_norm=1.0, output_dir="elsewhere", **counting,
    )  # fmt: skip
    flags = resolved(typed, TASKS["tnews"])
    script = identity.configuration(TASKS["tnews"], flags, "ernie-3.0-base-zh", "0123456789abcdef")
    assert identity.configuration_hash(planned) == identity.configuration_hash(script)


# Values that are surely, or probably, a typing error -------------------------------------------------------------------


@pytest.mark.parametrize("rate, meant", [(3e5, "3e-5"), (1e5, "1e-5"), (2.5e4, "2.5e-4"), (30.0, "3e-1")])
def test_a_learning_rate_above_1_is_refused(rate, meant):
    with pytest.raises(UsageError, match=f"--learning_rates .*: .*did you mean {meant}[?]"):
        completed(GridFlags(models=["m"], learning_rates=[3e-5, rate]))


def test_odd_values_are_reported(capsys, monkeypatch):
    monkeypatch.setattr(grid_flags, "usable_cores", lambda: 2)
    given = ["m", "--learning_rates", "3e-2", "--seeds", "42", "42", "--devices", "cpu:99"]
    assert completed(flags.parse(GridFlags, given)).seeds == [42]
    reported = capsys.readouterr().err.splitlines()
    assert reported[1].startswith("--learning_rates 0.03: ") and "3e-05" in reported[1]
    assert reported[0] == "--seeds: 42 is given more than once, and counts once"
    assert reported[2] == "--devices cpu:99: 99 trials at once will share 2 core(s)"


def test_usual_values_are_not(capsys):
    cores = resource_limits.usable_cores()
    completed(GridFlags(models=["m"], learning_rates=[1e-5, 1e-3], seeds=[42, 43], devices=f"cpu:{cores}"))
    assert not capsys.readouterr().err


# How a batch is cut into micro-batches, and cut again when memory ran out -----------------------------------------------


def job(task, batch_size):
    return job_of(*planned(task, batch_sizes=[batch_size]))


@pytest.mark.parametrize(
    "task, batch_size, micro_batches",
    [
        ("tnews", 32, [1, 2, 4, 8, 16, 32]),
        ("csl", 32, [2, 4, 8, 16, 32]),
        ("chid", 24, [8, 24]),  # 16 does not cut 24 evenly
        ("c3", 24, [12, 24]),
        ("c3", 32, [16, 32]),
    ],
)
def test_micro_batches_are_halved_until_they_are_one_row(task, batch_size, micro_batches):
    cut, found = job(task, batch_size), []
    while True:
        found.append(cut.accumulation())
        assert cut.micro_batch() == batch_size // found[-1]
        if not cut.cut_further():
            break
    assert found == micro_batches and cut.accumulation() == micro_batches[-1]


def test_several_cards_share_the_batch():
    cut = job("c3", 24)
    assert [(cut.accumulation(cards), cut.micro_batch(cards)) for cards in (1, 4, 12)] == [(12, 2), (3, 2), (1, 2)]
    assert cut.cut_further()
    assert [(cut.accumulation(cards), cut.micro_batch(cards)) for cards in (1, 4, 12)] == [(24, 1), (6, 1), (2, 1)]
    cut.memory_factor = 4
    assert (cut.accumulation(), cut.micro_batch(), cut.accumulation(4), cut.micro_batch(4)) == (None,) * 4


def test_states_are_the_words_of_grid_json():
    assert {state.value for state in State} == set(get_args(TrialState))
