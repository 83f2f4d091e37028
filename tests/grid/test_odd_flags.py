"""Values that are surely, or probably, a slip of the pen."""

import pytest

from cluebench.foundation import flags, resource_limits
from cluebench.foundation.errors import UsageError
from cluebench.scheduler.plan import grid_flags
from cluebench.scheduler.plan.grid_flags import GridFlags, completed


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
