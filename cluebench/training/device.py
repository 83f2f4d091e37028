"""The device of a run: its selection, ranks on several cards, seeds and memory."""

import os
import random
import resource
from typing import TypeVar

import numpy as np
import paddle

from cluebench.foundation import environment
from cluebench.foundation.errors import UsageError

T = TypeVar("T")


def use_device(device: str | None) -> str:
    """Selects the device of this process and joins the other ranks when there are some; returns its name.

    None: gpu if Paddle has one, else cpu. Raises UsageError when this Paddle has no such device.
    """
    if device is None:
        device = "gpu" if paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0 else "cpu"
    refuse_foreign(device)
    try:
        paddle.set_device(device)
    except (ValueError, RuntimeError, OSError) as error:
        raise UsageError(f"--device {device}: {' '.join(str(error).split())[:200]}") from None
    if device == "cpu" and "FLAGS_use_stride_kernel" not in os.environ:
        # Otherwise a transposed tensor is a view, and attention copies it with a kernel several times as slow.
        paddle.set_flags({"FLAGS_use_stride_kernel": False})
    if environment.world_size() > 1:
        paddle.distributed.init_parallel_env()
    return device


def refuse_foreign(device: str) -> None:
    """Raises UsageError when this Paddle was not built for such a device."""
    kind = device.split(":")[0]
    if kind == "gpu" and not paddle.is_compiled_with_cuda():
        raise UsageError(
            f"--device {device}: this PaddlePaddle was built for CPUs; install paddlepaddle-gpu or use --device cpu"
        )
    if kind in ("xpu", "npu") and kind not in paddle.device.get_all_device_type():
        raise UsageError(f"--device {device}: this PaddlePaddle was not built for {kind.upper()}s")


def seed(number: int) -> None:
    """Seeds random, numpy and paddle. Call it right before the model is built, as the published runs did."""
    random.seed(number)
    np.random.seed(number)
    paddle.seed(number)


def parallel(model: paddle.nn.Layer) -> paddle.nn.Layer:
    """The model, exchanging gradients between ranks when there are several."""
    return paddle.DataParallel(model) if environment.world_size() > 1 else model


def gathered(value: T) -> list[T]:
    """The values of all ranks, in order, on every rank; all of them call it. ``value`` can be pickled."""
    values: list[T] = [value]
    if environment.world_size() > 1:
        values = []
        paddle.distributed.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Returns when every rank has called it: after this, every rank can read what rank 0 wrote."""
    if environment.world_size() > 1:
        paddle.distributed.barrier()


def peak_memory_bytes(device: str) -> int:
    """The most memory used so far: reserved by Paddle on the card, or of the process on a CPU."""
    if device.split(":")[0] == "gpu":
        return int(paddle.device.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
