"""The command that a report offers has the trial's own identity, whatever flags the grid was given."""

import shlex
import sys
from importlib import import_module

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.flags import parse
from cluebench.records import identity
from cluebench.records.result import Result
from cluebench.records.run_flags import RunFlags, resolved
from cluebench.report.advice import rerun

FLAGS = [
    {},
    {"num_train_epochs": 1, "max_seq_length": 64, "limit": 32, "warmup_steps": 7, "amp": "bf16", "seed": 43},
    {"padding": True, "warmup_proportion": 0.0, "max_grad_norm": 0.5, "save_steps": 17, "max_steps": 9},
    {"weight_decay": 0.0, "dropout": 0.0, "adam_epsilon": 1e-6},
]


def result_of(task, flags, **more):
    chosen = {"learning_rate": 2e-5, "batch_size": 32, "dropout": 0.1} | flags
    settings = identity.configuration(
        task, resolved(RunFlags("m", do_train=True, **chosen), task), "m", "0" * 16, **more
    )
    return Result(task.name, "m", settings, identity.configuration_hash(settings), accumulation_steps=2, cards=2)


def configuration_of(command, task, monkeypatch):
    """The settings that the task's script would write into its result."""
    words = shlex.split(command)
    assert words[:2] == ["python", task.script]
    module = import_module(task.script.removesuffix(".py").replace("/", "."))
    (kind,) = {one for one in vars(module).values() if isinstance(one, type) and issubclass(one, RunFlags)} - {RunFlags}
    monkeypatch.setattr(sys, "argv", words[1:])
    return identity.configuration(task, resolved(parse(kind), task), "m", "0" * 16)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_command_has_the_identity_of_the_trial(task, flags, monkeypatch):
    result = result_of(task, flags)
    command = rerun(task, result, "m", "/data of mine")
    assert identity.configuration_hash(configuration_of(command, task, monkeypatch)) == result.configuration_hash
    assert "--gradient_accumulation_steps 4" in command and "--data_dir '/data of mine'" in command


def test_flags_of_one_script_are_given_to_it(monkeypatch):
    task = TASKS["cmrc2018"]
    result = result_of(task, {}, doc_stride=64, do_lower_case=False)
    command = rerun(task, result, "m", None)
    assert configuration_of(command, task, monkeypatch) == result.configuration


def test_settings_of_another_program_have_no_command():
    assert rerun(TASKS["tnews"], result_of(TASKS["tnews"], {}, trainer={"optim": "sgd"}), "m", None) is None
