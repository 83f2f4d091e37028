"""The whole scheduler on cards of the stand-in driver, with real processes."""

import pytest

from tests.grid.conftest import TNEWS

pytestmark = pytest.mark.slow

TWO = "card GPU-aaaa Test-24G 24576 24000 ok\ncard GPU-bbbb Test-24G 24576 24000 ok\n"


def used_cards(grid):
    return [words[4].removeprefix("cuda=") for words in grid.book("start")]


def test_children_get_the_uuid_of_their_card(grid, cards):
    cards(TWO)
    grid.behave(trials={"*": {"seconds": 0.3}})
    result = grid.run(*TNEWS)
    assert result.returncode == 0, result.stderr
    assert sorted(set(used_cards(grid))) == ["GPU-aaaa", "GPU-bbbb"] and len(used_cards(grid)) == 4
    assert "on gpu 0 (Test-24G), gpu 1 (Test-24G)" in result.stderr
    assert "set aside" not in result.stderr and "does not answer" not in result.stderr


def test_a_card_lost_under_its_trial(grid, cards):
    grid.prelude = "from cluebench.scheduler.loop import attempt_ends; attempt_ends._HEALTH_CHECK = 1.0\n"
    cards(TWO)
    grid.behave(trials={"tnews/1e-05_16_0.1": {"seconds": 60.0}, "tnews/1e-05_32_0.1": {"seconds": 0.1}})
    scheduler = grid.start(
        "--tasks", "tnews", "--learning_rates", "1e-5", "--batch_sizes", "16,32", "--max_attempts", "1"
    )
    grid.wait_for("start", 2)
    grid.wait_for("done", 1)
    victim = next(words[4].removeprefix("cuda=") for words in grid.book("start") if "16_0.1" in words[1])
    grid.behave(trials={"*": {"seconds": 0.1}})
    cards(TWO.replace(f"{victim} Test-24G 24576 24000 ok", f"{victim} Test-24G 24576 24000 lost"))
    _, reported = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 0, reported
    assert "is set aside for 30 s: GPU is lost" in reported
    assert [failure["kind"] for failure in grid.trial_state("tnews/1e-05_16_0.1")["failures"]] == ["lost device"]
    assert used_cards(grid)[-1] != victim


def test_reading_tasks_run_on_their_published_cards_through_the_launcher(grid, cards):
    cards("".join(f"card GPU-{letter} Test-32G 32768 32000 ok\n" for letter in "abcd"))
    one = ("--learning_rates", "2e-5", "--batch_sizes", "24")
    assert grid.run("--tasks", "c3,cmrc2018", *one).returncode == 0
    cuda = {words[1]: (words[4], words[6]) for words in grid.book("start")}
    assert cuda["c3/2e-05_24_0.1"] == ("cuda=GPU-a,GPU-b,GPU-c,GPU-d", "accumulation=3")
    assert len(cuda["cmrc2018/2e-05_24_0.1"][0].split(",")) == 2
    attempt = grid.trial_state("c3/2e-05_24_0.1")["attempts"][0]
    assert (attempt["cards"], attempt["accumulation"]) == (4, 3)
    # on one card it is the same trial: nothing runs again
    assert "all 2 trials are done" in grid.run("--tasks", "c3,cmrc2018", *one, "--mrc_cards", "1").stderr
