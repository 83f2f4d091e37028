from cluebench.identity import configuration, configuration_hash
from cluebench.tasks import TASKS


def hash_of(task="tnews", **changes) -> str:
    settings = dict(model="ernie-3.0-base-zh", data_fingerprint="d", learning_rate=3e-5, batch_size=32, dropout=0.1)
    settings.update(changes)
    return configuration_hash(configuration(TASKS[task], **settings))


def test_what_moves_a_score_changes_the_identity():
    base = hash_of()
    changes = [
        {"learning_rate": 2e-5}, {"batch_size": 16}, {"dropout": 0.0}, {"seed": 43}, {"epochs": 4},
        {"data_fingerprint": "e"}, {"model": "m"}, {"max_seq_length": 64}, {"warmup_steps": 10}, {"amp": "bf16"},
        {"limit": 100}, {"max_steps": 5}, {"max_grad_norm": 2.0}, {"doc_stride": 64}, {"eval_every_steps": 50},
    ]  # fmt: skip
    hashes = [hash_of(**change) for change in changes]
    assert base not in hashes and len(set(hashes)) == len(changes)


def test_spelling_out_the_row_is_the_same_trial():
    task = TASKS["cmrc2018"]
    spelled_out = dict(
        epochs=task.epochs, max_seq_length=512, warmup_steps=0, warmup_proportion=0.1, max_grad_norm=0.0, max_steps=0,
        doc_stride=128, max_answer_length=50, n_best_size=20, max_query_length=None, do_lower_case=None,
    )  # fmt: skip
    assert hash_of("cmrc2018") == hash_of("cmrc2018", **spelled_out)
