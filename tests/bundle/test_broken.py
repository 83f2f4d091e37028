"""Bundles broken by hypothesis: one line each, never a traceback; and no byte of one changes unseen."""

import gzip
import json
import os
import tempfile
from pathlib import Path

import pytest

from cluebench.bundle.contents import unpack
from cluebench.bundle.verifying import MISFIT, verify
from cluebench.data.source import DataSource
from tests.broken.mutations import broken_bytes, broken_json, for_all, outcome
from tests.bundle.editing import FIRST, SECOND, best_log, edit, members, write

pytestmark = pytest.mark.slow


@pytest.fixture
def files(bundle):
    """The members of a bundle of two trials, of which one has its log."""
    whole = members(bundle)
    best = best_log(whole).removesuffix(".log")
    kept = {name: whole[name] for name in whole if name.startswith((best, FIRST if best != FIRST else SECOND))}
    names = {Path(name).stem for name in kept}
    kept |= {name: whole[name] for name in ("manifest.json", "grid.json")}
    edit(kept, "grid.json", lambda grid: grid.update(trials=[one for one in grid["trials"] if one["name"] in names]))
    return kept


@pytest.fixture
def read(bundle, data):
    """Opens and verifies the bundle as it is now: the states of its tasks."""

    def states():
        with tempfile.TemporaryDirectory() as folder:
            return [found.state for found in verify(Path(folder), unpack(bundle, Path(folder)), DataSource(data))]

    return lambda: outcome(states)


def test_a_bundle_whose_bytes_are_broken_is_refused(bundle, files, read):
    write(bundle, files)
    whole, sound = bundle.read_bytes(), members(bundle)

    def check(content):
        bundle.write_bytes(content)
        found = read()
        assert str(bundle) in found.refused or members(bundle) == sound

    for_all(broken_bytes(whole), check)


@pytest.mark.parametrize("name", ["manifest.json", "grid.json", ".json", ".predictions", ".log"])
@pytest.mark.parametrize("seal", [True, False], ids=["sealed again", "not sealed"])
def test_a_broken_member_never_ends_in_a_traceback(name, seal, bundle, files, read):
    name = name if name in files else best_log(files).replace(".log", name)
    packed = name.endswith("predictions")
    whole = gzip.decompress(files[name]) if packed else files[name]

    def check(content):
        broken = {**files, name: gzip.compress(content, mtime=0) if packed else content}
        write(bundle, broken, seal=seal and name != "manifest.json")
        found = read()
        assert str(bundle) in found.refused if found.refused else found.value
        assert seal or name == "manifest.json" or found.refused or broken[name] == files[name]

    for_all(broken_bytes(whole) if name.endswith("log") else broken_json(json.loads(whole)), check)


def test_a_bundle_that_is_a_pipe_is_not_waited_for(bundle, read):
    bundle.unlink()
    os.mkfifo(bundle)
    assert "is no ordinary file" in read().refused


def test_what_is_broken_here_is_sound(bundle, files, read):
    write(bundle, files)
    found = read()
    assert found.value and MISFIT not in found.value, found
