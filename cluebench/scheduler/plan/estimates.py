"""How long a trial takes and how much memory it needs: computed from its size, corrected by finished trials.

Durations order the trials (longest first) and give the time left. A wrong one costs only some idle time at the end of a
grid. Memory decides which trials share a card, so it has a margin.
"""

import csv
import heapq
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median

from cluebench.benchmark.published import published_model
from cluebench.benchmark.tasks import Task
from cluebench.foundation import json_files
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import Configuration
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.grid_flags import GridFlags

GIB = 1 << 30

#: Forward and backward pass together, in forward passes.
_TRAIN_PASSES = 3
#: Cost of an optimizer step besides its tokens (kernel launches, the optimizer), in tokens of a forward pass.
_STEP_TOKENS = 1500
#: Cost of a trial besides its steps (imports, loading the model), in tokens of a forward pass.
_START_TOKENS = 300_000

#: Most models differ less in time per token than this factor; else they use a card differently and can't be compared.
_SIMILAR = 3

#: CUDA context, cuDNN and cuBLAS workspaces of a process: memory that the framework's allocator does not count.
CONTEXT_BYTES = int(0.9 * GIB)
#: Margins over an estimate, and over a measured peak.
_ESTIMATE_MARGIN, _MEASURED_MARGIN = 1.15, 1.05


@dataclass(frozen=True)
class Workload:
    """A task's size: examples (windows, blanks), sequences per example, mean tokens per sequence."""

    train_examples: int
    dev_examples: int
    sequences_per_example: int
    train_tokens: int
    eval_tokens: int


@cache
def workloads() -> dict[str, Workload]:
    """Task name → size, from workloads.csv."""
    lines = (Path(__file__).parent / "workloads.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {row.pop("task"): Workload(**{key: int(value) for key, value in row.items()}) for row in rows}


def workload(task: Task) -> Workload:
    """The size of a task. If workloads.csv lacks it: a usual size, with texts that fill half the length."""
    tokens = max(1, task.max_seq_length // 2)
    return workloads().get(task.name) or Workload(20_000, 3_000, task.num_choices or 1, tokens, tokens)


def schedule(trial: Trial, flags: GridFlags) -> tuple[int, int]:
    """Optimizer steps in total, and from one evaluation to the next."""
    train = min(workload(trial.row).train_examples, flags.limit or sys.maxsize)
    an_epoch = max(1, train // trial.setting.batch_size)
    steps = (flags.num_train_epochs or trial.row.epochs) * an_epoch
    steps = min(steps, flags.max_steps) if flags.max_steps > 0 else steps
    return steps, trial.row.eval_every_steps or an_epoch


def forward_tokens(trial: Trial, flags: GridFlags) -> float:
    """The trial's work in tokens passed forward through the model: training, evaluations, steps and start."""
    work, (steps, _) = workload(trial.row), schedule(trial, flags)
    per_step = _TRAIN_PASSES * trial.setting.batch_size * work.sequences_per_example * work.train_tokens + _STEP_TOKENS
    return steps * per_step + evaluation_tokens(trial, flags) + _START_TOKENS


def evaluation_tokens(trial: Trial, flags: GridFlags) -> float:
    """The share of the evaluations in it, if each computes all of dev."""
    work, (steps, every) = workload(trial.row), schedule(trial, flags)
    dev, evaluations = min(work.dev_examples, flags.limit or sys.maxsize), 1 + steps // every
    return evaluations * dev * work.sequences_per_example * work.eval_tokens


class DurationModel:
    """Seconds that a trial needs on one device. Unknown, except relative to others, until a trial has been observed."""

    def __init__(self, flags: GridFlags):
        self._flags = flags
        self._ratios: dict[tuple[Model, str], list[float]] = defaultdict(list)  # (model, task) → seconds per token
        self._running: dict[Trial, float] = {}
        # Results of `_ratio` since the last observation.
        self._cached: dict[tuple[Model, str], tuple[float | None, Model | None]] = {}

    def observe(self, trial: Trial, device_seconds: float, flags: GridFlags | None = None) -> None:
        """A finished trial took this long, times its devices. ``flags``: of its grid, if it is another one."""
        self._ratios[trial.model, trial.task].append(device_seconds / forward_tokens(trial, flags or self._flags))
        self._running.pop(trial, None)
        self._cached.clear()

    def project(self, trial: Trial, device_seconds: float) -> None:
        """A running trial will take this long in total: used only while nothing has finished."""
        self._running[trial] = device_seconds / forward_tokens(trial, self._flags)
        self._cached.clear()

    def relative(self, trial: Trial) -> float:
        """A duration comparable with other trials' of the same grid; larger is longer."""
        return self.seconds(trial) or forward_tokens(trial, self._flags) * _size_factor(trial.model)

    def seconds(self, trial: Trial) -> float | None:
        """Estimated device seconds; None until a trial has finished or been projected."""
        ratio, _ = self._ratio(trial.model, trial.task)
        return None if ratio is None else forward_tokens(trial, self._flags) * ratio

    def by_task(self, trial: Trial) -> tuple[float, Model] | None:
        """Device seconds by finished trials of the same task, and the model of these; None if there are none."""
        ratio, by = self._ratio(trial.model, trial.task)
        return None if ratio is None or by is None else (forward_tokens(trial, self._flags) * ratio, by)

    def _ratio(self, model: Model, task: str) -> tuple[float | None, Model | None]:
        """Seconds per token of a model on a task, and the model that gave them on this task; None: no model did.

        By this model, else by the model nearest in size (up to `_SIMILAR` times as slow or as fast), scaled by size. If
        none has finished the task: by other tasks of this model, else of any model, scaled by size.
        """
        key = model, task
        if key not in self._cached:
            scales = {other: _scale(model, other) for other, its_task in self._ratios if its_task == task}
            nearest = min(scales, key=lambda other: (other != model, abs(math.log(scales[other]))), default=None)
            if nearest is not None and 1 / _SIMILAR <= scales[nearest] <= _SIMILAR:
                self._cached[key] = fmean(self._ratios[nearest, task]) * scales[nearest], nearest
                return self._cached[key]
            means = [(other, fmean(ratios)) for (other, _), ratios in self._ratios.items()]
            means = means or [(running.model, ratio) for running, ratio in self._running.items()]
            own = [ratio for other, ratio in means if other == model]
            chosen = own or [ratio * _scale(model, other) for other, ratio in means]
            self._cached[key] = median(chosen) if chosen else None, None
        return self._cached[key]


@dataclass(frozen=True)
class EstimatedSize:
    """The numbers in a model's configuration that decide its memory and speed."""

    layers: int
    hidden_size: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """12 h² for each layer (attention 4, feed-forward 8) plus the word embeddings."""
        return 12 * self.layers * self.hidden_size**2 + self.vocabulary * self.hidden_size


#: For unknown models: the size of most Chinese encoders.
_USUAL_SIZE = EstimatedSize(layers=12, hidden_size=768, vocabulary=40_000)


@cache
def estimated_size(model: Model) -> EstimatedSize:
    """The size in the published table, else from a directory's configuration, else the usual 12 layers of 768."""
    if row := published_model(model.name):
        return EstimatedSize(row.layers, row.hidden_size, _USUAL_SIZE.vocabulary)
    path = model_files.first_of(model.directory, model_files.CONFIG_FILES) if model.directory else None
    written = json_files.read_if_sound(path, Configuration) if path else None
    # Old PaddleNLP layouts keep sizes among the arguments of the model inside.
    for config in (written, *(written.init_args if written else ())):
        if isinstance(config, Configuration) and config.num_hidden_layers and config.hidden_size:
            return EstimatedSize(
                config.num_hidden_layers, config.hidden_size, config.vocab_size or _USUAL_SIZE.vocabulary
            )
    return _USUAL_SIZE


def _size_factor(model: Model) -> float:
    """Time per token relative to a model of the usual size: by the layers' parameters, plus some overhead."""
    size, usual = estimated_size(model), _USUAL_SIZE
    return 0.02 + (size.layers * size.hidden_size**2) / (usual.layers * usual.hidden_size**2)


def _scale(model: Model, other: Model) -> float:
    return _size_factor(model) / _size_factor(other)


def estimated_bytes(trial: Trial, micro_batch: int, amp: str) -> int:
    """Device memory of one process training with this micro-batch, allocator's view (without the CUDA context).

    Weights, gradients and AdamW's two moments take 16 bytes a parameter in float32. Activations follow Korthikanti et
    al. 2022, "Reducing Activation Recomputation in Large Transformer Models": h·(34 + 5·a·s/h) bytes a token and layer
    in 16 bits, twice that in 32, with heads of 64.
    """
    size, task = estimated_size(trial.model), trial.row
    sequences = micro_batch * workload(task).sequences_per_example
    tokens = sequences * task.max_seq_length
    per_token = size.hidden_size * 34 + 5 * (size.hidden_size / 64) * task.max_seq_length
    width = 2 if amp == "off" else 1
    return int(16 * size.parameters + tokens * size.layers * per_token * width)


class MemoryModel:
    """Bytes a trial needs on each of its cards, the CUDA context included."""

    def __init__(self, amp: str = "off"):
        self._amp = amp
        self._peaks: dict[tuple[Model, str, int], int] = {}  # (model, task, micro-batch) → highest peak
        self._ratios: dict[Model, float] = {}  # model → highest measured / estimated
        self._exceeded: dict[tuple[Model, str], dict[int, int]] = {}  # → micro-batch → too few bytes

    def observe(self, trial: Trial, micro_batch: int, peak_bytes: int) -> None:
        """A finished trial's allocator reached this peak on one card."""
        key = (trial.model, trial.task, micro_batch)
        self._peaks[key] = max(peak_bytes, self._peaks.get(key, 0))
        ratio = peak_bytes / estimated_bytes(trial, micro_batch, self._amp)
        self._ratios[trial.model] = max(ratio, self._ratios.get(trial.model, 0.0))

    def exceeded(self, trial: Trial, micro_batch: int, free_bytes: int) -> None:
        """A trial ran out of memory with so many bytes of a card for itself."""
        too_few = self._exceeded.setdefault((trial.model, trial.task), {})
        too_few[micro_batch] = max(free_bytes, too_few.get(micro_batch, 0))

    def needed_bytes(self, trial: Trial, micro_batch: int) -> int:
        """By the peak of this model, task and micro-batch, else by the estimate scaled with this model's peaks.

        Always more than was too little for micro-batches of this size or less.
        """
        failed = self._exceeded.get((trial.model, trial.task), {})
        too_little = max((size for other, size in failed.items() if other <= micro_batch), default=0)
        if peak := self._peaks.get((trial.model, trial.task, micro_batch)):
            expected = peak * _MEASURED_MARGIN
        else:  # limits, as one odd measurement must not let everything or nothing fit
            ratio = min(2.0, max(0.5, self._ratios.get(trial.model, 1.0)))
            expected = estimated_bytes(trial, micro_batch, self._amp) * ratio * _ESTIMATE_MARGIN
        return max(int(expected) + CONTEXT_BYTES, int(too_little * _MEASURED_MARGIN))


@dataclass(frozen=True)
class Underway:
    """A running trial, and how far it is."""

    trial: Trial
    devices: int
    seconds: float = 0.0  # since its attempt began
    step: tuple[int, int] | None = None  # done, total; None before the first
    steps_per_second: float | None = None  # None while too few steps are done to know
    last_score: tuple[float, ...] | None = None

    @property
    def place(self) -> str:
        """``300/1000``: its step; ``-`` before the first."""
        return f"{self.step[0]}/{self.step[1]}" if self.step else "-"

    @property
    def score(self) -> str:
        """The last dev score; ``-`` before the first."""
        return self.trial.row.format_score(self.last_score) if self.last_score else "-"

    def __str__(self) -> str:
        """``30% 57.12``: the share of its steps, the last dev score."""
        return (f"{100 * self.step[0] / self.step[1]:.0f}% " if self.step else "") + self.score

    @property
    def seconds_left(self) -> float | None:
        """By the speed of its steps."""
        return (self.step[1] - self.step[0]) / self.steps_per_second if self.step and self.steps_per_second else None

    def left(self, seconds: float) -> float:
        """Seconds left on each of its devices, if it takes ``seconds`` on one device in total."""
        done = self.step[0] / self.step[1] if self.step else min(0.95, self.seconds * self.devices / seconds)
        return (1 - done) * seconds / self.devices


def time_left(
    durations: DurationModel, running: Sequence[Underway], waiting: Sequence[Trial], devices: int
) -> float | None:
    """Seconds until the last trial ends; ``waiting``: in order of start. None while durations are unknown."""
    for now in running:
        if now.step and now.steps_per_second:
            durations.project(now.trial, now.step[1] / now.steps_per_second * now.devices)
    estimated = {trial: durations.seconds(trial) for trial in [*(now.trial for now in running), *waiting]}
    seconds = {trial: value for trial, value in estimated.items() if value is not None}
    if len(seconds) < len(estimated):
        return None
    left = [now.left(seconds[now.trial]) for now in running for _ in range(now.devices)]
    return seconds_left(left, [seconds[trial] for trial in waiting], devices)


def seconds_left(running: list[float], waiting: list[float], devices: int) -> float:
    """Until the last trial ends, if ``waiting`` (seconds, in order of start) follow ``running`` (seconds left)."""
    free_at = [0.0] * devices  # a heap
    for duration in [*sorted(running, reverse=True), *waiting]:
        heapq.heapreplace(free_at, free_at[0] + duration)
    return max(free_at)
