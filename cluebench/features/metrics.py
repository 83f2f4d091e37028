"""Logits to answers, and answers to scores: numpy only, and PaddleNLP's own EM/F1 where it is what is reported."""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

import numpy as np

from cluebench.data.rows import SpanRow
from cluebench.features.span import SpanFeatures

#: The answer if no pair of start and end qualifies, as in the published runs.
NO_ANSWER = "empty"

_WINDOWS_AT_ONCE = 1024


def accuracy(predicted: np.ndarray, gold: np.ndarray) -> float:
    """Share of equal entries of two arrays [n]. Raises ValueError when they differ in length or are empty."""
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    if predicted.shape != gold.shape or gold.size == 0:
        raise ValueError(f"accuracy of {predicted.shape} predictions for {gold.shape} answers")
    return float(np.mean(predicted == gold))


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over rows of -log softmax(logits)[label]; logits [B, N] may hold -inf, labels [B]."""
    logits = logits.astype(np.float64)
    peak = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0]
    return float(np.mean(log_sum - logits[np.arange(len(labels)), labels]))


def decode_choices(logits: np.ndarray, option_mask: np.ndarray) -> np.ndarray:
    """int64 [questions]: the best real option of each; a padded one is never chosen, whatever its logit.

    logits [questions, N], option_mask bool [questions, N]. If they differ in width, the extra columns of the wider one
    are padding.
    """
    logits, option_mask = np.asarray(logits), np.asarray(option_mask, bool)
    width = min(logits.shape[1], option_mask.shape[1])
    if option_mask[:, width:].any():
        raise ValueError(f"logits of {logits.shape[1]} options for questions with up to {option_mask.shape[1]}")
    lowest = float(np.finfo(logits.dtype).min)  # so that even an infinitely bad real option beats a padded one
    scores = np.nan_to_num(logits[:, :width], nan=lowest, neginf=lowest)
    return np.where(option_mask[:, :width], scores, -np.inf).argmax(axis=1)


def decode_idioms(logits: np.ndarray, records: np.ndarray) -> np.ndarray:
    """int64 [blanks]: the candidate of each blank, decoded over whole records.

    logits [blanks, candidates]; records [blanks] says which blanks share their candidates. Pairs of blank and candidate
    are chosen in order of score, each blank and each candidate once (greedy); equal scores in reading order. Blanks
    beyond the number of candidates, which no official record has, take their own best.
    """
    logits, records = np.asarray(logits), np.asarray(records)
    chosen = np.asarray(logits.argmax(axis=1), np.int64)
    candidates = logits.shape[1]
    order = np.argsort(records, kind="stable")
    bounds = np.flatnonzero(np.diff(records[order], prepend=-1, append=-1))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        blanks = order[start:end]
        open_blanks, open_candidates = set(range(len(blanks))), set(range(candidates))
        for pair in np.argsort(-logits[blanks].reshape(-1), kind="stable").tolist():
            blank, candidate = divmod(pair, candidates)
            if blank in open_blanks and candidate in open_candidates:
                chosen[blanks[blank]] = candidate
                open_blanks.remove(blank)
                open_candidates.remove(candidate)
    return chosen


# Spans ----------------------------------------------------------------------------------------------------------------


def decode_spans(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    features: SpanFeatures,
    n_best_size: int,
    max_answer_length: int,
) -> dict[str, str]:
    """Question id → answer, cut from the context as it stands in the file.

    start_logits and end_logits [windows, T] contain for window i the outputs of ``features.batch([i])``; columns
    behind a sequence's end don't matter. In each window the ``n_best_size`` best starts and ends of the whole sequence
    are combined; a pair counts when both lie in the context, in order, and span at most ``max_answer_length`` tokens.
    The best sum over all windows of a question wins, of equal ones the first. Without any, the answer is NO_ANSWER.
    """
    best: dict[int, tuple[float, int, int, int]] = {}  # row → score, window, first and last token
    for block in range(0, len(features), _WINDOWS_AT_ONCE):
        windows = np.arange(block, min(block + _WINDOWS_AT_ONCE, len(features)))
        logits = start_logits[windows], end_logits[windows]
        found = _best_pairs(*logits, features, windows, n_best_size, max_answer_length)
        columns = (features.rows[windows], windows, *found)
        for row, window, score, start, end in zip(*map(np.ndarray.tolist, columns), strict=True):
            if score > best.get(row, (-np.inf,))[0]:
                best[row] = (score, window, start, end)
    answers = dict.fromkeys(features.ids, NO_ANSWER)
    for row, (_, window, start, end) in best.items():
        first, behind = features.characters(window, start, end)
        answers[features.ids[row]] = features.context(row)[first:behind] or NO_ANSWER
    return answers


def _best_pairs(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    features: SpanFeatures,
    windows: np.ndarray,
    n_best_size: int,
    max_answer_length: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(score, first token, last token) of the best pair in each window, each [windows]; -inf where there is none."""
    first, behind = (bound[windows, None] for bound in features.context_range())
    lengths = features.lengths[windows, None]
    starts, start_scores = _best_places(start_logits, lengths, n_best_size)
    ends, end_scores = _best_places(end_logits, lengths, n_best_size)
    start_scores = np.where((starts >= first) & (starts < behind), start_scores, -np.inf)
    end_scores = np.where((ends >= first) & (ends < behind), end_scores, -np.inf)
    size = ends[:, None, :] - starts[:, :, None] + 1
    sums = start_scores[:, :, None] + end_scores[:, None, :]
    sums = np.where((size >= 1) & (size <= max_answer_length), sums, -np.inf).reshape(len(windows), -1)
    place = sums.argmax(axis=1)
    row = np.arange(len(windows))
    return sums[row, place], starts[row, place // ends.shape[1]], ends[row, place % ends.shape[1]]


def _best_places(logits: np.ndarray, lengths: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``number`` best places of each sequence and their logits, best first, equal ones in order."""
    logits = np.where(np.arange(logits.shape[1]) < lengths, logits, -np.inf)
    places = np.argsort(-logits, axis=1, kind="stable")[:, :number]
    return places, np.take_along_axis(logits, places, axis=1)


def percent(shares: Sequence[float]) -> float:
    """The mean of shares of 1."""
    return 100 * float(np.mean(shares))


def question_scores(predictions: Mapping[str, str], rows: Sequence[SpanRow]) -> tuple[list[float], list[float]]:
    """EM (0 or 1) and F1 (0 to 1) of each row as PaddleNLP has them (`paddlenlp.metrics.squad`, is_whitespace_splited
    False).

    Each question counts its best over all of its answers. Raises ValueError when a question has no prediction or no
    answer.
    """
    _check_answered(predictions, rows)
    from paddlenlp.metrics.squad import get_raw_scores

    examples = [{"id": row.id, "answers": {"text": list(row.answers)}} for row in rows]
    exact, f1 = get_raw_scores(examples, predictions, is_whitespace_splited=False)
    return [exact[row.id] for row in rows], [f1[row.id] for row in rows]


def organisers_question_scores(
    predictions: Mapping[str, str], rows: Sequence[SpanRow]
) -> tuple[list[float], list[float]]:
    """EM (0 or 1) and F1 (0 to 1) of each row as the organisers of CMRC 2018 define them (Cui et al. 2019).

    Both ignore case and a list of punctuation marks. EM: the remaining text is equal. F1: of the longest common run of
    units over both texts, a unit being a Chinese character or a word of another script. Each question counts its best
    over all of its answers. Raises as question_scores does.
    """
    _check_answered(predictions, rows)
    exact, f1 = [], []
    for row in rows:
        prediction, answers = predictions[row.id], set(row.answers)
        same = any(_without_punctuation(answer) == _without_punctuation(prediction) for answer in answers)
        exact.append(float(same))
        f1.append(max(_common_run_f1(_units(answer), _units(prediction)) for answer in answers))
    return exact, f1


def _check_answered(predictions: Mapping[str, str], rows: Sequence[SpanRow]) -> None:
    if not rows:
        raise ValueError("no questions to score")
    for row in rows:
        if row.id not in predictions:
            raise ValueError(f"question {row.id} has no prediction")
        if not row.answers:
            raise ValueError(f"question {row.id} has no answer to compare with")


#: Marks the organisers' evaluation leaves out.
_IGNORED = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")


def _without_punctuation(text: str) -> str:
    return "".join(character for character in text.lower().strip() if character not in _IGNORED)


@lru_cache(maxsize=1 << 16)
def _units(text: str) -> tuple[str, ...]:
    """Chinese characters one by one, and the words of what stands between them."""
    units: list[str] = []
    for number, part in enumerate(re.split("([\u4e00-\u9fa5])", _without_punctuation(text))):
        units += [part] if number % 2 else _western_words(part)
    return tuple(units)


#: The Penn Treebank's conventions, which the organisers' evaluation takes from NLTK: where a word is cut in two.
_TREEBANK = (
    (r'(^|[ (\[{<])"', r"\1 `` "),
    (r'"', " '' "),
    (r"([«‘„»—–])", r" \1 "),
    (r"([:,])([^\d])|([:,])$", r" \1\3 \2"),
    (r"\.{2,}", r" \g<0> "),
    (r"([;@#$%&?!\[\](){}<>])", r" \1 "),
    (r"([^.])(\.)(['\s]*)$", r"\1 \2 \3"),
    (r"(^|\s)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"\1 ' "),
    (r"([^'])' ", r"\1 ' "),
    (r"([^' ])('s|'m|'d|'ll|'re|'ve|n't|')(?=\s|$)", r"\1 \2 "),
)


def _western_words(text: str) -> list[str]:
    for pattern, replacement in _TREEBANK:
        text = re.sub(pattern, replacement, text)
    return text.split()


def _common_run_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """F1 of the length of the longest run that both sequences hold."""
    longest = SequenceMatcher(None, gold, predicted, autojunk=False).find_longest_match().size
    return 2 * longest / (len(gold) + len(predicted)) if longest else 0.0
