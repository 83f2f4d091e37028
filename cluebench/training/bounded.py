"""``--evaluation bounded``: a pass over dev ends as soon as it can't become the best of its run.

The rows most likely to be wrong are computed first. The score is at most (rows − errors so far) / rows. Once this bound
is no more than the best so far, the other rows change nothing: a tie never becomes the best. A pass that becomes the
best is computed to its end.

A row's logits depend on its batch, by rounding. So an answer counts only where rounding can't change it: where its
logits lead by more than a tolerance that is measured on the device. Until the end every other row counts as right. At
the end these rows are computed again, in their batch of ``--evaluation full``, until answers and score equal those of
``full`` to the bit. The loss and the logits are the same up to rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cluebench.features.sequences import length_sorted_batches
from cluebench.records.analysis import Choices
from cluebench.records.dev_predictions import CutEvaluation

#: From batches of rows, one a rank, to the (rows, logits [rows, N]) of each batch, on every rank.
Compute = Callable[[Sequence[np.ndarray]], Sequence[tuple[np.ndarray, np.ndarray]]]

#: The weight of a row's earlier margins at each pass that computes it. On recorded runs, 0.5 to 0.8 do equally well,
#: and better than equal weights, the last pass alone, or shares of errors (`benchmarks/bounded_evaluation.py`).
_KEPT = 0.7
#: Batches a rank whose rows are sorted by length, so that rows of similar length share a batch.
_SORTED_TOGETHER = 4
#: The tolerance, in times the largest difference ever measured between two batches.
_SAFETY = 16


class BoundedEvaluation:
    """The passes over dev of one run.

    ``lengths``: int [rows], tokens. ``precision``: the relative spacing of the numbers that the device computes in.
    """

    def __init__(
        self, choices: Choices, lengths: np.ndarray, batch_size: int, world_size: int = 1, precision: float = 2.0**-23
    ):
        self._choices, self._lengths, self._batch_size, self._world_size = choices, lengths, batch_size, world_size
        self._full = length_sorted_batches(lengths, batch_size)
        records = np.arange(len(lengths)) if choices.records is None else choices.records
        _, self._groups = np.unique(records, return_inverse=True)
        self._sizes = np.bincount(self._groups)
        self._margins: Any = None  # float64 [rows], a mean of earlier ones, recent ones count more
        self._options = 0  # of the widest row
        self._precision, self._scale, self._difference = precision, 0.0, 0.0

    @property
    def tolerance(self) -> float:
        """The lead by which one logit must exceed another so that no batch changes their order."""
        return max(_SAFETY * self._difference, 2 * self._precision * self._scale)

    def evaluate(self, compute: Compute, best: float | None) -> np.ndarray | CutEvaluation:
        """The logits of all rows, float32 [rows, N]; or where the pass ended, once it could no longer exceed ``best``.

        ``best``: percent. The first pass computes all rows as ``--evaluation full`` does, to learn which are hard.
        """
        if best is None or self._margins is None:
            return self._first(compute)
        logits, computed, wrong = self._no_logits(), np.zeros(len(self._lengths), bool), 0
        left = self._sizes.copy()
        for rows, found in self._in_turns(compute, self._hardest_first()):
            self._put(logits, rows, found)
            computed[rows] = True
            np.subtract.at(left, self._groups[rows], 1)
            wrong += self._certainly_wrong(logits, self._completed(rows, left))
            bound = 100 * ((len(computed) - wrong) / len(computed))  # as accuracies are computed, to the bit
            if bound <= best:
                self._learn(logits, computed)
                return CutEvaluation(bound, int(computed.sum()), len(computed))
        self._make_certain(compute, logits)
        self._learn(logits, computed)
        return logits

    def _first(self, compute: Compute) -> np.ndarray:
        pieces = list(self._in_turns(compute, self._full))
        self._options = max(found.shape[1] for _, found in pieces)
        logits = self._no_logits()
        for rows, found in pieces:
            self._put(logits, rows, found)
        self._learn(logits, np.ones(len(logits), bool))
        for rows, found in self._in_turns(compute, self._hardest_first()[: 2 * self._world_size]):
            self._measure(logits, rows, found)
        return logits

    # In which order ---------------------------------------------------------------------------------------------------

    def _hardest_first(self) -> list[np.ndarray]:
        """Batches of all rows, the smallest margins first; rows of one record are ranked by their mean margin."""
        of_group = np.bincount(self._groups, self._margins) / self._sizes
        place = np.argsort(np.argsort(of_group, kind="stable"), kind="stable")
        order = np.argsort(place[self._groups], kind="stable")
        size, batches = self._batch_size * self._world_size * _SORTED_TOGETHER, []
        for start in range(0, len(order), size):
            part = order[start : start + size]
            batches += [part[batch] for batch in length_sorted_batches(self._lengths[part], self._batch_size)]
        return batches

    def _in_turns(self, compute: Compute, batches: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(batches), self._world_size):
            yield from compute(batches[start : start + self._world_size])

    def _learn(self, logits: np.ndarray, computed: np.ndarray) -> None:
        """Averages in the margins of the computed rows: the label's logit minus the best other logit."""
        rows = np.flatnonzero(computed)
        others, gold = self._choices.possible(logits[rows], rows).astype(np.float64), self._choices.gold[rows]
        right = others[np.arange(len(rows)), gold]
        others[np.arange(len(rows)), gold] = -np.inf
        margins = np.nan_to_num(right - others.max(axis=1), nan=0.0)
        if self._margins is None:
            self._margins = margins
        else:
            self._margins[rows] = _KEPT * self._margins[rows] + (1 - _KEPT) * margins

    # What is certain --------------------------------------------------------------------------------------------------

    def _completed(self, rows: np.ndarray, left: np.ndarray) -> np.ndarray:
        """The rows of the groups whose last row has just been computed."""
        if len(left) == len(self._lengths):
            return rows
        return np.flatnonzero(np.isin(self._groups, self._groups[rows][left[self._groups[rows]] == 0]))

    def _certainly_wrong(self, logits: np.ndarray, rows: np.ndarray) -> int:
        """Errors among the rows of whole groups that rounding can't change."""
        answers = self._choices.decoded(logits[rows], rows)
        certain = self._leads(logits, rows, answers) > self.tolerance
        return int(np.sum(certain & (answers != self._choices.gold[rows])))

    def _leads(self, logits: np.ndarray, rows: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """float32 [rows]: the lead of the answers of a row's group; while no logit changes by half of it, they stay.

        Rows of a group can't share an option. So another option of a row loses against the row's answer, or against the
        row whose answer it is, whichever is higher.
        """
        scores, index = self._choices.possible(logits[rows], rows), np.arange(len(rows))
        _, groups = np.unique(self._groups[rows], return_inverse=True)
        chosen = scores[index, answers]
        owners = np.full((groups.max(initial=-1) + 1, scores.shape[1]), -np.inf, scores.dtype)
        np.maximum.at(owners, (groups, answers), chosen)
        leads = np.maximum(chosen[:, None], owners[groups]) - scores
        leads[index, answers] = np.inf
        lowest = np.full(len(owners), np.inf, scores.dtype)
        np.minimum.at(lowest, groups, leads.min(axis=1))
        lowest[np.bincount(groups, minlength=len(owners)) > scores.shape[1]] = 0  # some had to share an option
        return lowest[groups]

    def _make_certain(self, compute: Compute, logits: np.ndarray) -> None:
        """Computes rows again as ``--evaluation full`` does until all answers are certain.

        At least the batch of the closest answer is computed, which measures the rounding again.
        """
        rows, exact = np.arange(len(logits)), np.zeros(len(logits), bool)
        while not exact.all():
            leads = self._leads(logits, rows, self._choices.decoded(logits, rows))
            doubtful = ~exact & ~(leads > (self.tolerance if exact.any() else max(self.tolerance, leads.min())))
            batches = [batch for batch in self._full if doubtful[batch].any()]
            if not batches:
                return
            for batch, found in self._in_turns(compute, batches):
                self._measure(logits, batch, found)
                self._put(logits, batch, found)
                exact[batch] = True

    def _measure(self, logits: np.ndarray, rows: np.ndarray, again: np.ndarray) -> None:
        """Measures how much logits of the same rows differ between two batches."""
        differences = np.abs(logits[rows, : again.shape[1]] - again)
        self._difference = max(self._difference, float(differences[np.isfinite(differences)].max(initial=0)))

    # Logits -----------------------------------------------------------------------------------------------------------

    def _no_logits(self) -> np.ndarray:
        return np.full((len(self._lengths), self._options), -np.inf, np.float32)

    def _put(self, logits: np.ndarray, rows: np.ndarray, found: np.ndarray) -> None:
        logits[rows, : found.shape[1]] = found
        self._scale = max(self._scale, float(np.abs(found[np.isfinite(found)]).max(initial=0)))
