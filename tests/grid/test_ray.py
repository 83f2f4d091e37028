"""Trials on a Ray cluster of several nodes, with cards that are there for Ray alone. Skipped where Ray is absent."""

import signal

import pytest

from tests.grid.conftest import KEYS, TABLE_ROW, TNEWS, alive, check_nothing_lost_or_twice
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


def finished(grid, arguments, driver):
    """The grid's last process has ended well, in the undisturbed table, and has left nothing behind."""
    output, reported = driver.communicate(timeout=180)
    assert (driver.returncode, output.splitlines()[1:2]) == (0, [TABLE_ROW]), output + reported
    assert sorted(words[1] for words in grid.book("done")) == KEYS and not grid.book("overlap")
    assert not any(alive(int(words[2])) for words in grid.book("start"))
    assert grid.state()["status"] == "done" and (grid.runs / "some-model" / "report.html").is_file()
    return reported


def test_a_card_each_and_a_node_without_the_environment_is_named_once(grid, nodes, fake_driver, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Absent:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'cluebench':\n            raise ModuleNotFoundError(f'No module named {name!r}')\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    (tmp_path / "cards.txt").write_text("".join(f"card GPU-{name * 4} Test-80G 81920 81000 ok\n" for name in "ab"))
    nodes.add("bare", 2, 2, PYTHONPATH=tmp_path)
    nodes.add("driver", 12, 2, LD_LIBRARY_PATH=fake_driver, FAKE_NVML=tmp_path / "cards.txt")
    grid.behave(trials={"*": {"seconds": 3.0, "steps": 1}})
    result = grid.run(*TNEWS, *grid.on_ray, timeout=120)
    check_nothing_lost_or_twice(grid, result, 4)
    assert {words[4] for words in grid.book("start")} == {"cuda=GPU-aaaa", "cuda=GPU-bbbb"}
    assert {words[5] for words in grid.book("start")} == {"threads=6"}
    assert result.stderr.count("node bare: ModuleNotFoundError: No module named 'cluebench'; it is not used") == 1


def test_a_node_joins_and_one_dies(grid, nodes):
    first = nodes.add("first", 2)
    grid.behave(trials={"*": {"gate": "go"}})
    driver = grid.start(*TNEWS, *grid.on_ray)
    grid.wait_for("start", 1, timeout=180)
    nodes.add("second", 4)
    grid.wait_for("start", 3, timeout=180)
    nodes.remove(first)
    until(lambda: not alive(int(grid.book("start")[0][2])), what="the end of the trial on the first node")
    grid.open_gate()
    reported = finished(grid, TNEWS, driver)
    assert "on first is lost; its trials go on elsewhere" in reported
    assert len(grid.book("start")) == 5  # the one that was lost, again


def test_a_broken_node_does_not_eat_up_the_grid(grid, nodes):
    """Each of its trials crashes at once: after three, its workers leave the rest to others."""
    nodes.add("broken", 2, BROKEN_NODE=1)
    nodes.add("good", 2)
    grid.behave(trials={"*": {"seconds": 4.0}})
    driver = grid.start(*TNEWS, *grid.on_ray)
    reported = finished(grid, TNEWS, driver)
    assert "node broken: grid_search.py: error: the last 3 trials on this machine crashed" in reported
    assert len(grid.book("start")) == 3 + 4


def test_a_driver_that_is_killed_takes_its_trials_along_and_the_next_start_goes_on(grid, nodes):
    nodes.add("node", 4)
    grid.behave(trials={"*": {"seconds": 30.0, "steps": 60}})
    driver = grid.start(*TNEWS, *grid.on_ray)
    grid.wait_for("start", 2, timeout=180)
    until(lambda: len(list(grid.runs.glob("*/tnews/*/checkpoint"))) == 2, what="checkpoints")
    driver.kill()
    driver.communicate()
    until(lambda: not any(alive(int(words[2])) for words in grid.book("start")), 60, "the end of the trials")
    grid.behave(trials={"*": {"seconds": 0.1, "steps": 60}})
    finished(grid, TNEWS, grid.start(*TNEWS, *grid.on_ray))


def test_interruption_ends_the_trials_on_the_cluster_and_cores_of_others_are_waited_for(grid, nodes):
    nodes.add("node", 2)
    grid.behave(trials={"*": {"seconds": 30.0, "steps": 60}})
    driver = grid.start(*TNEWS, *grid.on_ray)
    grid.wait_for("start", 1, timeout=180)
    until(lambda: list(grid.runs.glob("*/tnews/*/checkpoint")), what="a checkpoint")
    # the cores are the first grid's until it ends
    other = type(grid)(grid.folder / "other")
    other.prelude = "from cluebench.scheduler.run import ray_workers; ray_workers._PATIENCE = 2.0\n"
    waiting = other.start(*TNEWS, *grid.on_ray)
    line = next(line for line in waiting.stderr if "waiting until" in line)
    assert line == "waiting until the Ray cluster has a card or core to spare for the grid\n"
    assert not other.book("start")
    driver.send_signal(signal.SIGINT)
    reported = driver.communicate(timeout=60)[1]
    assert driver.returncode == 130, reported
    assert not any(alive(int(words[2])) for words in grid.book("start"))
    finished(other, TNEWS, waiting)
    grid.behave(trials={"*": {"seconds": 0.1, "steps": 60}})
    finished(grid, TNEWS, grid.start(*TNEWS, *grid.on_ray))


def test_cluster_that_is_not_there_is_one_line(grid):
    result = grid.run(*TNEWS, "--engine", "ray", "--ray_address", "127.0.0.1:1", timeout=120)
    assert result.returncode == 2 and "--ray_address 127.0.0.1:1" in result.stderr.splitlines()[-1]
