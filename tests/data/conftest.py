"""Small official-looking data directories."""

import json
import zipfile

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data import source as source_module
from cluebench.data.source import DataSource
from cluebench.foundation.notices import notice_once


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """Each test starts like a fresh process: no file has been hashed, no directory is named by the environment."""
    monkeypatch.setattr(source_module, "_md5_sums", {})
    notice_once.cache_clear()
    monkeypatch.delenv("CLUE_DATA_DIR", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


class Shelf:
    """A data directory under construction."""

    def __init__(self, folder):
        self.folder = folder
        self.source = DataSource(folder)

    def put(self, task, file, content):
        """``content``: bytes as they are, text, or rows to be written one JSON object a line."""
        path = self.folder / f"{task}_public" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "\n".join(json.dumps(row, ensure_ascii=False) for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return TASKS[task]

    def zip(self, task, members):
        """A zip of the task with ``members`` (name → bytes)."""
        return zip_of(self.folder / f"{task}_public.zip", members)


def zip_of(path, members):
    """Writes an archive of ``members`` (name → bytes)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)
