from dataclasses import dataclass, fields

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.flags import flag
from cluebench.records import identity
from cluebench.records.identity import configuration, configuration_hash
from cluebench.records.run_flags import NOT_SCORED, RunFlags, resolved


def hash_of(task="tnews", model="ernie-3.0-base-zh", data="d", cards=1, flags_class=RunFlags, **changes) -> str:
    given = dict(model_name_or_path=model, learning_rate=3e-5, batch_size=32, dropout=0.1, do_train=True)
    flags = resolved(flags_class(**given | changes), TASKS[task], cards)
    return configuration_hash(configuration(TASKS[task], flags, model, data, cards=cards))


def test_what_moves_a_score_changes_the_identity():
    base = hash_of()
    changes = [
        {"learning_rate": 2e-5}, {"batch_size": 16}, {"dropout": 0.0}, {"seed": 43}, {"num_train_epochs": 4},
        {"data": "e"}, {"model": "m"}, {"max_seq_length": 64}, {"warmup_steps": 10}, {"warmup_proportion": 0.2},
        {"amp": "bf16"}, {"limit": 100}, {"max_steps": 5}, {"max_grad_norm": 2.0}, {"save_steps": 50},
        {"weight_decay": 0.0}, {"adam_epsilon": 1e-6}, {"dropout": None}, {"padding": True},
    ]  # fmt: skip
    hashes = [hash_of(**change) for change in changes]
    assert base not in hashes and len(set(hashes)) == len(changes)


def test_a_flag_counts_unless_it_is_listed_as_not_counting():
    """A script's own flag, and one that someone adds without a thought for identities."""

    @dataclass
    class Flags(RunFlags):
        doc_stride: int = flag(128, "of the task's row")
        label_smoothing: float = flag(0.0, "new")
        task_name: str = flag("", "listed")

    plain = hash_of("cmrc2018")
    assert hash_of("cmrc2018", flags_class=Flags, task_name="x", output_dir="y", device="cpu", resume=True) == plain
    assert hash_of("cmrc2018", flags_class=Flags, label_smoothing=0.1) != plain
    assert hash_of("cmrc2018", flags_class=Flags, doc_stride=64) != plain


def test_every_flag_is_either_stated_or_does_not_count():
    """So that a new flag of all scripts is thought about; forgotten, it counts."""
    names = {field.name for field in fields(RunFlags)}
    assert names - identity._STATED == names & NOT_SCORED and not identity._STATED & NOT_SCORED


def test_the_configuration_says_when_padding_was_left_out():
    for padding in (True, False):
        flags = resolved(RunFlags("m", do_train=True, padding=padding), TASKS["tnews"])
        settings = configuration(TASKS["tnews"], flags, "m", "d")
        assert settings.get("padding") is (None if padding else False)
        assert settings["batch_size"] == flags.batch_size  # on one card, without another number


def test_hashes_are_those_of_results_that_users_have():
    """Worked out once from results of the first version, which computed padding: a change here makes every finished
    trial run again."""
    assert hash_of(padding=True) == "6b117eea729642ae"
    assert hash_of("cmrc2018", limit=10, learning_rate=1e-5, batch_size=24) == "6df83e910d2f66f0"
    # SHA-256 of {"a":[1,null],"模型":"中"}
    assert configuration_hash({"模型": "中", "a": [1, None]}) == "223dfa657bab4940"


def test_the_same_trial_in_other_words():
    """Several cards share the batch; the task's row is spelled out, and that spans always have padding."""
    assert hash_of("c3", batch_size=8, cards=4) == hash_of("c3", batch_size=32)
    spelled_out = dict(
        num_train_epochs=TASKS["cmrc2018"].epochs, max_seq_length=512, warmup_steps=0, warmup_proportion=0.1,
        max_grad_norm=0.0, max_steps=0, padding=True,
    )  # fmt: skip
    assert hash_of("cmrc2018") == hash_of("cmrc2018", **spelled_out)
