"""Writes and restores a run's checkpoint: a directory of JSON and arrays, without code."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from safetensors.numpy import load_file, save_file

from cluebench.foundation import atomic, environment
from cluebench.foundation.file_facts import facts_of
from cluebench.records.result import Result
from cluebench.training.checkpoint_format import RESTARTS, STATE_FILE, CheckpointState, Generators
from cluebench.training.device import gathered
from cluebench.training.optimization import Precision

_WEIGHTS, _MOMENTS = "model.safetensors", "optimizer.safetensors"
_SCHEDULE, _MASTER_WEIGHTS = "LR_Scheduler", "master_weights"  # as Paddle's optimizers call them


@dataclass
class Checkpoint:
    """The parts of a run that change, and the directory in which --resume finds them."""

    folder: Path
    model: paddle.nn.Layer
    optimizer: paddle.optimizer.Optimizer
    precision: Precision
    result: Result

    def save(self, step: int) -> None:
        """Writes what the run needs to continue after ``step`` as if it had never stopped, whole or not at all.

        All ranks call it, and rank 0 writes: model and optimizer are the same on all ranks, the random generators are
        gathered. Raises OSError.
        """
        of_this_rank, *of_other_ranks = gathered(generators())
        if environment.rank() != 0:
            return
        with atomic.replacing(self.folder) as temporary:
            temporary.mkdir()
            weights = {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}
            save_file(weights, temporary / _WEIGHTS)
            save_file(_moments(self.optimizer, self._parameters()), temporary / _MOMENTS)
            CheckpointState(
                self.result.configuration_hash,
                self.result.progress(),
                self.result.configuration,
                {name: facts_of(temporary / name) for name in (_WEIGHTS, _MOMENTS)},
                step=step,
                schedule=self.optimizer.state_dict()[_SCHEDULE],
                scaler=_scaler_state(self.precision.scaler) if self.precision.scaler else None,
                generators=of_this_rank,
                of_other_ranks=of_other_ranks,
            ).write(temporary / STATE_FILE)

    def restore(self) -> int:
        """Restores the checkpoint in place; returns its step.

        Returns 0 and changes nothing when there is no checkpoint, when it has other settings, or when it is damaged;
        a line reports the damage.
        """
        state = CheckpointState.read(self.folder / STATE_FILE, RESTARTS)
        same = state is not None and state.configuration_hash == self.result.configuration_hash
        if not (state and same and state.is_whole(self.folder, RESTARTS)):
            return 0
        weights, moments = load_file(self.folder / _WEIGHTS), load_file(self.folder / _MOMENTS)
        # Where more cards go on than wrote it, the others draw as rank 0. (Earlier versions kept only its state.)
        of_ranks = dict(enumerate([state.generators, *state.of_other_ranks]))
        set_generators(of_ranks.get(environment.rank(), state.generators))
        self.model.set_state_dict(weights)
        self.optimizer.set_state_dict({**_named(moments, self._parameters()), _SCHEDULE: state.schedule})
        if self.precision.scaler and state.scaler:
            self.precision.scaler.load_state_dict(state.scaler)
        self.result.take_up(state.result)
        return state.step

    def _parameters(self) -> list[str]:
        return [parameter.name for parameter in self.model.parameters()]


# An optimizer's keys begin with the names of parameters, which Paddle numbers differently in every process. The file
# has a parameter's place in the model instead: "12/_moment1_0", "master_weights/12/".


def _moments(optimizer: paddle.optimizer.Optimizer, parameters: list[str]) -> dict[str, np.ndarray]:
    places = {name: number for number, name in enumerate(parameters)}

    def placed(key: str) -> str:
        name = next(key[:end] for end in range(len(key), 0, -1) if key[:end] in places)
        return f"{places[name]}/{key[len(name) :]}"

    state = optimizer.state_dict()
    masters = state.pop(_MASTER_WEIGHTS, {})
    arrays = {placed(key): tensor.numpy() for key, tensor in state.items() if key != _SCHEDULE}
    return arrays | {f"{_MASTER_WEIGHTS}/{placed(key)}": tensor.numpy() for key, tensor in masters.items()}


def _named(moments: Mapping[str, np.ndarray], parameters: list[str]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for key, array in moments.items():
        *nested, place, suffix = key.split("/")
        holder = state.setdefault(nested[0], {}) if nested else state
        holder[parameters[int(place)] + suffix] = paddle.to_tensor(array)
    return state


def _scaler_state(scaler: paddle.amp.GradScaler) -> dict[str, Any]:
    """The state as JSON values: the scale itself is an array."""
    state = scaler.state_dict()
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in state.items()}


# Random generators ----------------------------------------------------------------------------------------------------


def generators() -> Generators:
    """Their states now."""
    version, numbers, gauss = random.getstate()
    state: Any = np.random.get_state()
    name, keys, position, has_gauss, cached = state
    of_devices = [state.__getstate__() for state in paddle.get_rng_state()]
    of_paddle = [(*numbers, bytes(engine).decode()) for *numbers, engine in of_devices]
    of_numpy = (name, keys.tolist(), position, has_gauss, cached)
    return Generators((version, list(numbers), gauss), of_numpy, of_paddle)


def set_generators(states: Generators) -> None:
    """Puts them into these states."""
    version, numbers, gauss = states.python
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = states.numpy
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    kind: Any = type(paddle.get_rng_state()[0])
    of_devices = [kind.__new__(kind) for _ in states.paddle]
    for state, (device, seed, offset, engine) in zip(of_devices, states.paddle):
        state.__setstate__((device, seed, offset, list(engine.encode())))
    paddle.set_rng_state(of_devices)
