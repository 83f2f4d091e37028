"""Gradients over micro-batches, mixed precision, and the loss that is logged, on tensors of one number."""

import types
from contextlib import contextmanager, nullcontext

import pytest

from cluebench.foundation.errors import Diverged, UsageError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def optimization():
    """The module, on the CPU."""
    import paddle

    from cluebench.training import optimization

    paddle.set_device("cpu")
    return optimization


class Scaler:
    """Stands in for GradScaler, which works on cards only."""

    def __init__(self):
        self.calls = []

    def scale(self, loss):
        self.calls.append("scale")
        return loss * 1024

    def step(self, optimizer):
        self.calls.append("step")
        optimizer.step()

    def update(self):
        self.calls.append("update")


class Weight:
    """A model with one weight, 1.0, whose loss of a micro-batch is weight times number."""

    def __init__(self):
        import paddle

        self.value = paddle.create_parameter([], "float32", default_initializer=paddle.nn.initializer.Constant(1.0))

    def loss_of(self, number):
        return self.value * number

    @property
    def gradient(self):
        return float(self.value.grad)


def test_a_steps_gradient_is_of_the_mean_over_the_micro_batches_it_has(optimization):
    for micro_batches, mean in (([3.0], 3.0), ([3.0, 5.0], 4.0), ([3.0, 5.0, 10.0], 6.0)):
        model = Weight()
        loss = optimization.accumulate(model, micro_batches, model.loss_of, optimization.Precision())
        assert float(loss) == pytest.approx(mean) and loss.stop_gradient
        assert model.gradient == pytest.approx(mean)


def test_cards_exchange_gradients_once_a_step(optimization):
    """With the last micro-batch; before it they must not."""

    class Parallel(Weight):
        calls = ""

        @contextmanager
        def no_sync(self):
            self.calls += "("
            yield
            self.calls += ")"

        def loss_of(self, number):
            self.calls += str(int(number))
            return super().loss_of(number)

    for micro_batches, calls in (([1.0, 2.0, 3.0], "(1)(2)3"), ([1.0], "1")):
        model = Parallel()
        optimization.accumulate(model, micro_batches, model.loss_of, optimization.Precision())
        assert model.calls == calls


def test_a_scaler_scales_every_loss_and_takes_the_step(optimization):
    import paddle

    model, precision, entered = Weight(), optimization.Precision(scaler=Scaler()), []

    @contextmanager
    def computing():
        entered.append(True)
        yield

    precision.context = computing
    loss = optimization.accumulate(model, [3.0, 5.0], model.loss_of, precision)
    assert float(loss) == 4.0  # what is logged is not scaled
    assert model.gradient == 4.0 * 1024 and len(entered) == 2
    precision.step(paddle.optimizer.SGD(1.0, parameters=[model.value]))
    assert precision.scaler.calls == ["scale", "scale", "step", "update"]
    assert float(model.value) == 1.0 - 4.0 * 1024


def test_without_a_scaler_the_optimizer_takes_the_step(optimization):
    import paddle

    model, precision = Weight(), optimization.Precision.of("off", "cpu")
    assert precision.context is nullcontext and precision.scaler is None
    optimization.accumulate(model, [0.25], model.loss_of, precision)
    precision.step(paddle.optimizer.SGD(1.0, parameters=[model.value]))
    assert float(model.value) == 0.75


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize("amp, device", [("off", "gpu:0"), ("fp16", "gpu:0"), ("bf16", "gpu:0"), ("bf16", "xpu:1")])
def test_precision_is_refused_only_where_the_card_has_none(optimization, amp, device, supported, monkeypatch):
    import paddle

    cast = []
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: supported)
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **settings: cast.append(settings) or nullcontext())
    if (amp, device, supported) == ("bf16", "gpu:0", False):
        with pytest.raises(UsageError, match="--amp bf16: gpu:0 does not compute in bfloat16"):
            optimization.Precision.of(amp, device)
        return
    precision = optimization.Precision.of(amp, device)
    with precision.context():
        types = {"fp16": "float16", "bf16": "bfloat16"}
        assert cast == ([] if amp == "off" else [{"level": "O1", "dtype": types[amp]}])
    assert (precision.scaler is not None) == (amp == "fp16")
    if amp == "fp16":
        # 1 where it finds no card and switches itself off
        assert precision.scaler.get_init_loss_scaling() in (2**15, 1)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_half_precision_is_refused_on_cpus(optimization, device):
    for amp in ("fp16", "bf16"):
        with pytest.raises(UsageError, match=f"--amp {amp}: Paddle.* CPUs; use --amp off"):
            optimization.Precision.of(amp, device)


# The loss that is logged ----------------------------------------------------------------------------------------------


def test_the_loss_logged_is_the_last_steps_and_the_speed_that_since_the_last_line(optimization, monkeypatch):
    import paddle

    clock = [100.0]
    monkeypatch.setattr(optimization.time, "perf_counter", lambda: clock[0])
    meter = optimization.LossMeter()
    for loss in (5.0, 4.0, 3.0):
        meter.add(paddle.to_tensor(loss))
        clock[0] += 2.0
    assert meter.read(3) == (3.0, 0.5)
    meter.add(paddle.to_tensor(2.5))
    clock[0] += 0.25
    assert meter.read(4) == (2.5, 4.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_loss_that_is_no_number_is_found_whenever_it_came(optimization, bad):
    import paddle

    meter = optimization.LossMeter()
    meter.check(0)  # nothing has been added
    for loss in (1.0, bad, 1.0):
        meter.add(paddle.to_tensor(loss))
    for look in (meter.check, meter.read):
        with pytest.raises(
            Diverged, match="the loss became NaN or infinite at or shortly before step 3; try a lower --learning"
        ):
            look(3)


def test_in_fp16_only_steps_in_a_row_without_end_are_a_divergence(optimization):
    """The optimizer leaves single ones out. The Trainer's steps go by the same rule."""
    import paddle

    from cluebench.training.paddlenlp_trainer import ProtocolTrainer

    meter = optimization.LossMeter(fp16=True)
    trainer = types.SimpleNamespace(
        state=types.SimpleNamespace(global_step=2), losses=optimization.LossMeter(fp16=True)
    )
    for loss in [float("inf")] * optimization.MOST_OVERFLOWS + [1.0] + [float("nan")] * optimization.MOST_OVERFLOWS:
        meter.add(paddle.to_tensor(loss))
        meter.check(3)
        ProtocolTrainer._check_loss_valid(trainer, paddle.to_tensor(loss))
    meter.add(paddle.to_tensor(float("nan")))
    with pytest.raises(Diverged):
        meter.check(3)
    with pytest.raises(Diverged):
        ProtocolTrainer._check_loss_valid(trainer, paddle.to_tensor(float("nan")))
