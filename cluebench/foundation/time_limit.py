"""Questions that may never be answered, such as to a broken driver, a network or a file system."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def answers(questions: Mapping[K, Callable[[], T]], seconds: float) -> dict[K, T | Exception]:
    """What each function returns or raises within ``seconds``; all run at once, in threads.

    A function that does not answer in time is missing. Its thread is abandoned and keeps no process alive.
    """
    found: dict[K, T | Exception] = {}

    def ask(key: K, question: Callable[[], T]) -> None:
        try:
            found[key] = question()
        except Exception as error:
            found[key] = error

    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in questions.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)
