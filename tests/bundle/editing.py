"""Bundles unpacked, changed and written again."""

import gzip
import hashlib
import json
import zipfile

FIRST, SECOND = "afqmc/1e-05_16_0.1", "afqmc/1e-05_32_0.1"


def members(bundle):
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(bundle, files, seal=True):
    """The bundle, written again; ``seal``: with the hashes that a forger would not forget."""
    if seal:
        manifest = json.loads(files["manifest.json"])
        manifest["files"] = {
            name: hashlib.sha256(value).hexdigest() for name, value in files.items() if name != "manifest.json"
        }
        files["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in files.items():
            archive.writestr(name, value)


def edit(files, name, change):
    """``change`` is called with the value of a JSON member, or of predictions."""
    is_packed = name.endswith("predictions")
    value = json.loads(gzip.decompress(files[name]) if is_packed else files[name])
    change(value)
    content = json.dumps(value).encode()
    files[name] = gzip.compress(content) if is_packed else content


def rewrite(bundle, forge, to=None, seal=True):
    """The bundle, changed by ``forge``, which is called with its files; written to another path if ``to`` is given."""
    files = members(bundle)
    forge(files)
    write(to or bundle, files, seal)


def best_log(files):
    return next(name for name in files if name.startswith("afqmc/") and name.endswith(".log"))
