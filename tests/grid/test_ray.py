"""Trials on a Ray cluster of several nodes, one of which dies. Skipped where Ray is not installed."""

import signal

import pytest

from tests.grid.test_grid_search import KEYS, TABLE_ROW, TNEWS, check_nothing_lost_or_twice, until

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


def test_grid_on_several_nodes(grid, cluster):
    cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    result = grid.run(*TNEWS, "--engine", "ray", "--ray_address", cluster.address, "--devices", "cpu:3", timeout=120)
    check_nothing_lost_or_twice(grid, result, 4)
    assert result.stdout.splitlines()[1] == TABLE_ROW


def test_node_that_dies_loses_no_trial(grid, cluster):
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    grid.behave(trials={"*": {"seconds": 4.0, "steps": 8}})
    arguments = (*TNEWS, "--engine", "ray", "--ray_address", cluster.address, "--devices", "cpu:3")
    scheduler = grid.start(*arguments)
    grid.wait_for("start", 3, timeout=60)
    cluster.remove_node(node, allow_graceful=False)
    output, said = scheduler.communicate(timeout=180)
    assert scheduler.returncode == 0, output + said
    kinds = [failure["kind"] for trial in grid.state()["trials"] for failure in trial["failures"]]
    assert kinds and set(kinds) == {"lost device"}
    done = sorted(words[1] for words in grid.book("done"))
    assert done == KEYS and not grid.book("overlap")


def test_interruption_ends_the_trials_on_the_cluster(grid, cluster):
    grid.behave(trials={"*": {"seconds": 30.0, "steps": 60}})
    scheduler = grid.start(*TNEWS, "--engine", "ray", "--ray_address", cluster.address, "--devices", "cpu:1")
    grid.wait_for("start", 1, timeout=60)
    until(lambda: list(grid.runs.glob("*/tnews/*/checkpoint")), what="a checkpoint")
    scheduler.send_signal(signal.SIGINT)
    scheduler.communicate(timeout=60)
    assert scheduler.returncode == 130
    grid.behave(trials={"*": {"seconds": 0.1, "steps": 60}})
    result = grid.run(*TNEWS, "--engine", "ray", "--ray_address", cluster.address, "--devices", "cpu:1", timeout=120)
    assert result.stdout.splitlines()[1] == TABLE_ROW and not grid.book("overlap")


def test_cluster_that_is_not_there_is_one_line(grid):
    result = grid.run(*TNEWS, "--engine", "ray", "--ray_address", "127.0.0.1:1", timeout=120)
    assert result.returncode == 2 and "--ray_address 127.0.0.1:1" in result.stderr.splitlines()[-1]
