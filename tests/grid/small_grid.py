"""A grid of a few stand-in trials, and what must be true of it afterwards."""

TNEWS = ("--tasks", "tnews", "--learning_rates", "1e-5,3e-5", "--batch_sizes", "16,32")


KEYS = ["tnews/1e-05_16_0.1", "tnews/1e-05_32_0.1", "tnews/3e-05_16_0.1", "tnews/3e-05_32_0.1"]


#: What the stand-in scripts score, worked out by their rule.
TABLE_ROW = "-\t74.94\t-\t-\t-\t-\t-\t-\t-\t-"


def check_nothing_lost_or_twice(grid, result, trials):
    assert result.returncode == 0, result.stdout + result.stderr
    assert not grid.book("overlap")
    done = sorted(words[1] for words in grid.book("done"))
    assert len(done) == trials and len(set(done)) == trials
