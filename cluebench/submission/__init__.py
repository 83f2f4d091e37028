"""Submission files for the CLUE leaderboard: their names and how they are written.

Shapes: a JSON object a line (classification, C3), or one JSON object (CHID: tag → candidate, CMRC2018: id → answer).
`kept` lets models of a grid predict, `checks` finds what is wrong with a file, and `packing` makes the zip.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence

from cluebench.benchmark.tasks import DIAGNOSTICS, TASKS, Task, TestSet
from cluebench.foundation import atomic

# Writing --------------------------------------------------------------------------------------------------------------


def write_labels(path: str | os.PathLike, ids: Sequence[int], labels: Sequence[str | int]) -> None:
    """One ``{"id": 0, "label": "102"}`` a line, in the given order. Whole or not at all."""
    rows = ({"id": number, "label": label} for number, label in zip(ids, labels, strict=True))
    atomic.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_answers(path: str | os.PathLike, answers: Mapping[str, str | int]) -> None:
    """One JSON object, tag → candidate index or question id → answer text. Whole or not at all."""
    atomic.write_text(path, json.dumps(answers, ensure_ascii=False, indent=0) + "\n")


# Names ----------------------------------------------------------------------------------------------------------------

#: Name of a submission file → its task and test set.
FILES: dict[str, tuple[Task, TestSet]] = {
    test.submission: (task, test) for task in TASKS.values() for test in task.test_sets
}

#: All right names of prediction files.
NAMES = (*FILES, *(test.submission for test in DIAGNOSTICS.test_sets))

#: Names that people give to prediction files of test sets. The leaderboard reads only names in FILES.
_LIKE_A_SUBMISSION = re.compile(
    rf"^(?!dev|train|\.).*_predict(ions?|ed)?\.(json|jsonl|txt)$|^({'|'.join(TASKS)})[\d_.-]*\.jsonl?$", re.IGNORECASE
)


def wrong_name(name: str) -> str | None:
    """What is wrong with the name of a prediction file; None for a right name, and for a file without predictions."""
    if name in NAMES or not _LIKE_A_SUBMISSION.search(name):
        return None
    own = [file for file, (task, _) in FILES.items() if name.lower().startswith(task.name)]
    near = own or difflib.get_close_matches(name.lower(), FILES, n=1) or list(FILES)
    return f"{name}: this is not the name of a submission file; rename it to {' or '.join(near)}"


def in_version(task: Task, version: str) -> list[TestSet]:
    """The task's test sets in an upload for leaderboard "1.0", "1.1" or "all"; a task's only test set is in each."""
    if version == "all" or len(task.test_sets) == 1:
        return list(task.test_sets)
    return [test for test in task.test_sets if test.version == version]
