"""A checkpoint without a run round it: every part of it comes back, whatever the new process calls its parameters."""

import random

import numpy as np
import pytest

from cluebench.records.result import DevPoint, Result

pytestmark = pytest.mark.slow


class Scaler:
    """Stands in for GradScaler, which works on cards only."""

    def __init__(self, scale):
        self.scale = scale

    def state_dict(self):
        return {"scale": self.scale, "incr_count": 7}

    def load_state_dict(self, state):
        self.scale, self.count = state["scale"], state["incr_count"]


class Parameters:
    """A model of three numbers, named as Paddle numbers them: one's name begins another's."""

    def __init__(self, first):
        import paddle

        self.values = [paddle.rand([2]) for _ in range(3)]
        for value, number in zip(self.values, (0, 9, 99)):
            value.name = f"linear_{first + number}.w_0"

    def parameters(self):
        return self.values

    def state_dict(self):
        return {f"layer{number}.weight": value for number, value in enumerate(self.values)}

    def set_state_dict(self, weights):
        for number, value in enumerate(self.values):
            value.set_value(weights[f"layer{number}.weight"])


class Optimizer:
    """What Paddle's keep, and the weights in float32 that they keep beside those in half precision."""

    def __init__(self, model, start):
        import paddle

        names = [parameter.name for parameter in model.parameters()]
        self.state = {f"{name}_moment1_0": paddle.to_tensor([start + i]) for i, name in enumerate(names)}
        self.state["master_weights"] = {name: paddle.to_tensor([10 * start + i]) for i, name in enumerate(names)}
        self.state["LR_Scheduler"] = {"last_epoch": int(start), "last_lr": 1e-5 * start}

    def state_dict(self):
        return dict(self.state)

    def set_state_dict(self, state):
        self.state = state


def checkpoint(folder, first, start, scaler=None):
    from cluebench.training.checkpoint import Checkpoint
    from cluebench.training.optimization import Precision

    model, result = Parameters(first), Result("tnews", "m", {}, "0" * 16)
    return Checkpoint(folder, model, Optimizer(model, start), Precision(scaler=scaler), result)


def test_everything_comes_back(tmp_path):
    saved = checkpoint(tmp_path / "checkpoint", first=1, start=3.0, scaler=Scaler(512.0))
    saved.result.add(DevPoint(5, 0, (50.0,), 0.7))
    saved.result.train_seconds = 12.5
    saved.save(8)
    drawn = draws()
    assert {path.suffix for path in saved.folder.iterdir()} == {".json", ".safetensors"}  # which hold no code
    other = checkpoint(tmp_path / "checkpoint", first=200, start=0.0, scaler=Scaler(1.0))
    assert other.restore() == 8
    assert draws() == drawn
    assert (other.precision.scaler.scale, other.precision.scaler.count) == (512.0, 7)
    assert other.result == saved.result and other.result.best_step == 5
    for mine, theirs in zip(other.model.values, saved.model.values):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    state = other.optimizer.state
    assert state["LR_Scheduler"] == {"last_epoch": 3, "last_lr": 1e-5 * 3.0}
    names = [parameter.name for parameter in other.model.parameters()]
    assert [float(state[f"{name}_moment1_0"]) for name in names] == [3.0, 4.0, 5.0]
    assert [float(state["master_weights"][name]) for name in names] == [30.0, 31.0, 32.0]
    assert len(state) == 5


def draws():
    import paddle

    return random.random(), random.gauss(0, 1), float(np.random.rand()), float(paddle.rand([1]))


def test_the_odd_number_of_a_pair_of_gaussians_is_not_forgotten(tmp_path):
    """python's and numpy's generators draw two at once."""
    random.gauss(0, 1), np.random.standard_normal()
    checkpoint(tmp_path / "checkpoint", 1, 3.0).save(1)
    expected = [random.gauss(0, 1), float(np.random.standard_normal())]
    assert checkpoint(tmp_path / "checkpoint", 1, 3.0).restore() == 1
    assert [random.gauss(0, 1), float(np.random.standard_normal())] == expected


@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_rank_writes(rank, tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ID", rank)
    mine = checkpoint(tmp_path / "checkpoint", 1, 3.0)
    mine.save(8)
    assert (tmp_path / "checkpoint").exists() == (rank == "0")
