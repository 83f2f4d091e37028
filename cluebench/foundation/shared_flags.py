"""Flags that many commands share, so that each has one name, help text and default."""

from typing import Any

from cluebench.foundation.flags import flag
from cluebench.foundation.repository import RUN_ROOT


def data_dir_flag(default: str = "CLUE_DATA_DIR, else they are downloaded") -> Any:
    """``default``: what is used without the flag, in words."""
    return flag(None, "official CLUE files or a copy of them", default_text=default)


def cache_dir_flag(writes: bool = True) -> Any:
    places = "directory" if writes else None
    return flag(None, "where token ids are kept", default_text="~/.cache/cluebench", writes=places)


def run_root_flag(writes: bool = False) -> Any:
    places = "directory" if writes else None
    return flag(
        str(RUN_ROOT),
        "logs and results, a folder for each model",
        default_text="runs/ in the repository",
        writes=places,
    )


def offline_flag() -> Any:
    return flag(False, "never use the network")
