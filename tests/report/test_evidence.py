import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records.dev_predictions import DevPredictions
from cluebench.report.evidence import Pair, average_p, incomparable, measured, published
from cluebench.statistics.uncertainty import standard_error


def test_measured_error_is_over_clusters_for_every_metric(evidence):
    generator = np.random.default_rng(0)
    right, clusters = generator.random(300) < 0.6, np.arange(300) // 3
    f1 = np.maximum(right, generator.random(300).round(3))
    found = evidence("cmrc2018", right, clusters, f1)
    assert found.score == pytest.approx((100 * right.mean(), 100 * f1.mean()))
    assert found.error == pytest.approx([100 * standard_error(values, clusters) for values in (right, f1)])


def test_seeds_are_averaged_row_by_row(predictions):
    seeds = [predictions("tnews", right, seed=seed) for seed, right in ((42, [1, 1, 0, 0]), (43, [1, 0, 0, 0]))]
    assert measured(seeds).by_row[:, 0].tolist() == [100, 50, 0, 0]
    with pytest.raises(ValueError, match=r"seeds differ in epochs \(3 and 5\)"):
        measured([seeds[0], predictions("tnews", [1, 1, 0, 0], epochs=5)])


def test_published_scores_have_a_binomial_error_over_the_official_rows():
    assert published(TASKS["cluewsc2020"], (86.18,)).error[0] == pytest.approx(1.979, abs=0.001)  # 304 rows
    assert published(TASKS["ocnli"], (80.10,)).error[0] == pytest.approx(0.735, abs=0.001)  # 2950 usable rows
    exact, f1 = published(TASKS["cmrc2018"], (70.71, 90.41)).error  # 3219 questions
    assert (exact, f1) == pytest.approx((0.802, 0.519), abs=0.001)
    assert published(TASKS["c3"], (77.88,)).error[0] == pytest.approx(0.672, abs=0.001)  # 1825 + 1991 questions
    assert all(published(task, (50.0, 50.0)) is not None for task in TASKS.values())


def test_what_makes_no_pair_is_named(predictions):
    first = predictions("tnews", [1, 0, 1])
    assert incomparable(first, predictions("tnews", [0, 0, 1], learning_rate=1e-5, model="other", seed=7)) == ""
    other = predictions("tnews", [0, 0, 1], data="fedcba9876543210", epochs=5)
    assert incomparable(first, other) == "data (0123456789abcdef and fedcba9876543210), epochs (3 and 5)"
    ways = {"amp": "fp16", "padding": False}  # that share a ranking
    assert incomparable(first, predictions("tnews", [0, 0, 1], **ways)) == ""
    assert incomparable(first, predictions("tnews", [0, 0, 1], warmup=0.2, **ways)) == "warmup (None and 0.2)"
    assert incomparable(first, predictions("tnews", [0, 1])) == "their dev rows (3 and 2 of them)"
    shared = predictions("tnews", [0, 0, 1], np.array([0, 0, 1]))
    assert incomparable(first, shared) == ""  # a file of a time when repeated texts were not looked for
    assert "dev rows" in incomparable(predictions("tnews", [1, 0, 1], np.array([0, 1, 1])), shared)
    assert Pair(measured([first]), measured([shared])).clusters.tolist() == [0, 0, 1]


def test_paired_errors_are_smaller_where_models_agree(evidence):
    right = np.arange(400) % 4 > 0
    first, second = evidence("tnews", right), evidence("tnews", right ^ (np.arange(400) < 10))
    theirs = published(TASKS["tnews"], second.score)
    assert Pair(first, second).is_paired and not Pair(first, theirs).is_paired
    assert Pair(first, second).spread.error < 0.3 * np.hypot(first.error[0], second.error[0])
    assert Pair(first, theirs).spread.error == pytest.approx(np.hypot(first.error[0], theirs.error[0]))


def test_p_of_an_average_counts_the_tasks_of_both(evidence):
    right = np.arange(1000) % 4 > 0
    better = right | (np.arange(1000) < 100)
    first = {"tnews": evidence("tnews", right), "afqmc": evidence("afqmc", right)}
    assert average_p(first, first) == 1
    assert average_p(first, {"tnews": evidence("tnews", better)}) < 0.001
    assert average_p(first, {"tnews": first["tnews"], "afqmc": evidence("afqmc", right[::-1])}) > 0.9


def test_rows_are_distinguished_by_their_ids_and_older_files_by_their_number(tmp_path):
    def written(ids, right):
        made = DevPredictions.of_choices(ids, np.array(right), np.ones(3, int))
        made.write(tmp_path / "written", {"task": "ocnli", "data": "0" * 16}, 100)
        return DevPredictions.read(tmp_path / "written")

    one, other = written([3, 5, 8], [1, 0, 1]), written([3, 5, 9], [1, 0, 1])
    older = written(range(3), [1, 1, 0])
    assert incomparable(one, written([3, 5, 8], [0, 0, 1])) == ""
    assert incomparable(one, other) == "their dev rows (3 and 3 of them)"
    assert {incomparable(older, written(range(3), [0, 0, 0])), incomparable(older, one), incomparable(one, older)} == {
        ""
    }
