"""Trials on a Ray cluster of several nodes, with cards that are there for Ray alone. Skipped where Ray is absent."""

import re
import signal
from collections import Counter

import pytest

from cluebench.benchmark.tasks import Setting
from cluebench.pretrained.model import Model
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import MemoryModel
from tests.grid.small_grid import KEYS, TABLE_ROW, TNEWS, check_nothing_lost_or_twice
from tests.grid.test_grid_search import until

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


class Nodes:
    """A cluster whose head runs no trial."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        soon = {f"health_check_{what}": value for what, value in
                (("initial_delay_ms", 0), ("period_ms", 500), ("timeout_ms", 3000), ("failure_threshold", 3))}  # fmt: skip
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": soon})
        self.here = []

    def add(self, name, cores, cards=0, **environment):
        environment = {key: str(value) for key, value in environment.items()}
        node = self.cluster.add_node(node_name=name, num_cpus=cores, num_gpus=cards, env_vars=environment)
        self.here.append(node)
        return node

    def remove(self, node):
        self.here.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def alive(self):
        return sum(node["Alive"] for node in self.cluster.global_state.node_table())


@pytest.fixture(scope="module")
def cluster():
    made = Nodes()
    yield made
    made.cluster.shutdown()


@pytest.fixture
def nodes(grid, cluster):
    grid.environment.pop("OMP_NUM_THREADS", None)
    grid.on_ray = ("--engine", "ray", "--ray_address", cluster.cluster.address)
    yield cluster
    for node in list(cluster.here):
        cluster.remove(node)
    until(lambda: cluster.alive() == 1, timeout=60, what="the end of the nodes")


def places(grid):
    """Where each trial ran in the end, by its key."""
    ends = {f"{trial['task']}/{trial['name']}": trial["attempts"][-1]["devices"] for trial in grid.state()["trials"]}
    return {key: sorted(devices) for key, devices in ends.items()}


def test_cards_of_one_trial_are_of_one_node_which_shares_its_cores(grid, nodes, tmp_path):
    """Beside a node without the environment, which is named once and runs nothing."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Absent:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'cluebench':\n            raise ModuleNotFoundError(f'No module named {name!r}')\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    nodes.add("bare", 2, 2, PYTHONPATH=tmp_path)
    nodes.add("small", 2, 2)
    nodes.add("large", 12, 4)
    one = ("--learning_rates", "2e-5", "--batch_sizes", "24")
    result = grid.run("--tasks", "c3,cmrc2018", *one, *grid.on_ray, timeout=120)
    check_nothing_lost_or_twice(grid, result, 2)
    assert places(grid) == {
        "c3/2e-05_24_0.1": [f"large gpu {number}" for number in range(4)],
        "cmrc2018/2e-05_24_0.1": ["small gpu 0", "small gpu 1"],
    }
    told = {words[1]: (sorted(words[4].removeprefix("cuda=").split(",")), words[5]) for words in grid.book("start")}
    assert told == {
        "c3/2e-05_24_0.1": (["0", "1", "2", "3"], "threads=3"),
        "cmrc2018/2e-05_24_0.1": (["0", "1"], "threads=1"),
    }
    assert result.stderr.count("node bare is not used: ModuleNotFoundError: No module named 'cluebench'") == 1


def test_memory_is_accounted_for_where_a_node_has_a_driver(grid, nodes, fake_driver, tmp_path):
    """Four trials may share a card; the memory of one card is enough for two."""
    plan = ("--tasks", "tnews", "--learning_rates", "1e-5,2e-5,3e-5,5e-5", "--batch_sizes", "16", "--seeds", "42,43")
    needed = MemoryModel().needed_bytes(Trial(Model.of("some-model"), "tnews", Setting(1e-5, 16, 0.1), 42), 16) >> 20
    (tmp_path / "cards.txt").write_text(f"card GPU-aaaa Test-80G 81920 {int(2.5 * needed)} ok\n")
    nodes.add("driver", 4, 1, LD_LIBRARY_PATH=fake_driver, FAKE_NVML=tmp_path / "cards.txt")
    nodes.add("pretended", 4, 1)
    grid.behave(trials={"*": {"seconds": 2.0, "steps": 1}})  # once it logs steps, a trial has what it was promised
    result = grid.run(*plan, *grid.on_ray, "--jobs_per_device", "4", timeout=120)
    check_nothing_lost_or_twice(grid, result, 8)
    attempts = [trial["attempts"][0] for trial in grid.state()["trials"]]
    earliest = min(attempt["finished"] for attempt in attempts)
    at_once = Counter(attempt["devices"][0] for attempt in attempts if attempt["started"] < earliest)
    assert at_once == {"driver gpu 0": 2, "pretended gpu 0": 4}
    assert {words[4] for words in grid.book("start")} == {"cuda=GPU-aaaa", "cuda=0"}
    assert {words[5] for words in grid.book("start")} == {"threads=1"}


def test_nodes_that_join_are_used_and_one_that_dies_loses_no_trial(grid, nodes):
    first = nodes.add("first", 2)
    grid.behave(trials={"*": {"seconds": 15.0, "steps": 30}})
    scheduler = grid.start(*TNEWS, *grid.on_ray)
    grid.wait_for("start", 1, timeout=60)
    nodes.add("second", 4)
    grid.wait_for("start", 3, timeout=60)
    grid.behave(trials={"*": {"seconds": 1.0, "steps": 30}})
    nodes.remove(first)
    output, said = scheduler.communicate(timeout=180)
    assert scheduler.returncode == 0, output + said
    failures = [failure["kind"] for trial in grid.state()["trials"] for failure in trial["failures"]]
    lost = [trial["attempts"] for trial in grid.state()["trials"] if trial["failures"]]
    assert failures == ["lost device"] and lost[0][0]["devices"] == ["first cpu 0"]
    assert sorted(words[1] for words in grid.book("done")) == KEYS and not grid.book("overlap")
    assert {"second cpu 1", "second cpu 2"} <= {place for (place,) in places(grid).values()}
    assert "second cpu 1 joins the grid" in said and "first cpu 0 has left the cluster" in said


def test_a_broken_node_does_not_eat_up_the_grid(grid, nodes):
    """Each of its trials crashes at once; a trial that crashes on a good node is tried again, and nothing set aside."""
    nodes.add("broken", 2, 2, BROKEN_NODE=1)
    nodes.add("good", 1, 1)
    grid.behave(trials={"*": {"seconds": 0.5}, "tnews/1e-05_16_0.1": {"attempts": [{"signal": 9}, {"signal": 9}]}})
    plan = ("--tasks", "tnews", "--learning_rates", "1e-5,2e-5,3e-5,5e-5", "--batch_sizes", "16,32")
    result = grid.run(*plan, *grid.on_ray, timeout=120)
    assert result.returncode == 0, result.stderr
    assert {place for (place,) in places(grid).values()} == {"good gpu 0"}
    attempts = [trial["attempts"] for trial in grid.state()["trials"]]
    assert max(map(len, attempts)) <= 3
    crashed = [attempt["devices"] for tried in attempts for attempt in tried if attempt["outcome"] == "crashed"]
    assert 3 <= len(crashed) <= 6 and all(devices[0].startswith("broken") for devices in crashed)
    for number in range(2):
        assert re.search(
            f"broken gpu {number} is set aside for 30 s: the last 3 trials on (it|its node) cr", result.stderr
        )
    assert "good gpu 0 is set aside" not in result.stderr


def test_interruption_ends_the_trials_on_the_cluster_and_cards_of_others_are_waited_for(grid, nodes):
    nodes.add("node", 1, 1)
    grid.behave(trials={"*": {"seconds": 30.0, "steps": 60}})
    scheduler = grid.start(*TNEWS, *grid.on_ray)
    grid.wait_for("start", 1, timeout=60)
    until(lambda: list(grid.runs.glob("*/tnews/*/checkpoint")), what="a checkpoint")
    # the card is the first grid's until it ends
    other = type(grid)(grid.folder / "other")
    other.prelude = "from cluebench.scheduler.processes import ray_engine; ray_engine._PATIENCE = 2.0"
    waiting = other.start(*TNEWS, *grid.on_ray)
    line = next(line for line in waiting.stderr if "waiting" in line)
    assert line == "waiting until the Ray cluster has a card or core to spare for the grid\n" and not other.book(
        "start"
    )
    scheduler.send_signal(signal.SIGINT)
    scheduler.communicate(timeout=60)
    assert scheduler.returncode == 130
    output, said = waiting.communicate(timeout=60)
    assert output.splitlines()[1] == TABLE_ROW, said
    grid.behave(trials={"*": {"seconds": 0.1, "steps": 60}})
    result = grid.run(*TNEWS, *grid.on_ray, timeout=120)
    assert result.stdout.splitlines()[1] == TABLE_ROW and not grid.book("overlap")


def test_cluster_that_is_not_there_is_one_line(grid):
    result = grid.run(*TNEWS, "--engine", "ray", "--ray_address", "127.0.0.1:1", timeout=120)
    assert result.returncode == 2 and "--ray_address 127.0.0.1:1" in result.stderr.splitlines()[-1]
