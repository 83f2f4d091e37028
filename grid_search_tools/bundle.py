"""Packs a finished grid into one file, and checks such files of others.

    python bundle.py pack runs/MODEL            # writes MODEL.bundle.zip
    python bundle.py verify MODEL.bundle.zip    # computes the scores again, and compares the protocol
    python bundle.py merge *.bundle.zip         # into the run root, for one leaderboard of many people's runs

Nothing in a bundle is trusted or run, and nothing is downloaded. If anything does not fit, the exit code is 1 and merge
refuses the bundle.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluebench.bundle import contents, packing, verifying
from cluebench.bundle.contents import MANIFEST, Manifest
from cluebench.bundle.verifying import MISFIT
from cluebench.data.source import DataSource, open_source
from cluebench.foundation import atomic, command
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import data_dir_flag, flag, parse, refuse_unwritable, run_root_flag
from cluebench.foundation.text import shown
from cluebench.report.run import run_directory


@dataclass
class Flags:
    __doc__ = __doc__

    action: str = flag(..., "what to do", choices=("pack", "verify", "merge"), positional=True)
    paths: list[str] = flag(
        ..., "pack: a run directory, or the name of a model in the run root; verify, merge: bundles", positional=True
    )
    output: str | None = flag(None, "pack: the bundle", default_text="<run directory's name>.bundle.zip", writes="file")
    data_dir: str | None = data_dir_flag("CLUE_DATA_DIR, else what was downloaded before")
    run_root: str = run_root_flag()


def main() -> int:
    flags = parse(Flags)
    if flags.action != "verify":
        refuse_unwritable(flags, "output" if flags.action == "pack" else "run_root")
    source = open_source(flags.data_dir, offline=True)
    if flags.action != "pack":
        return max(opened(Path(path).expanduser(), flags, source) for path in flags.paths)
    if len(flags.paths) > 1:
        raise UsageError("pack takes one run directory")
    run = run_directory(flags.paths[0], flags.run_root)
    output = Path(flags.output or f"{run.resolve().name}.bundle.zip").expanduser()
    print("\n".join(packing.pack(run, output, source)))
    return 0


def opened(bundle: Path, flags: Flags, source: DataSource) -> int:
    """Verifies a bundle and, to merge it, moves it into the run root. Returns the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = contents.unpack(bundle, folder)
        verdicts = verifying.verify(folder, manifest, source)
        model = manifest.model
        about = f" ({model.identity})" if model.identity != model.name else ""
        mark = f" ({shown(manifest.search)})" if manifest.search else ""
        print(f"{bundle}: {model.name}{about}{mark}")
        for verdict in verdicts:
            print("\n".join(verdict.lines()))
        if any(verdict.state == MISFIT for verdict in verdicts):
            print(f"{bundle}: not merged" if flags.action == "merge" else f"{bundle}: does not fit")
            return 1
        if flags.action == "merge":
            merge(bundle, folder, manifest, Path(flags.run_root).expanduser())
    return 0


def merge(bundle: Path, folder: Path, manifest: Manifest, run_root: Path) -> None:
    """Under the model's name; beside other runs of it, with digits of its manifest's SHA-256 behind that."""
    name, content = manifest.model.name.replace("/", "--"), (folder / MANIFEST).read_bytes()
    for target in (run_root / name, run_root / f"{name}--{contents.sha256(content)[:8]}"):
        if (target / MANIFEST).is_file() and (target / MANIFEST).read_bytes() == content:
            print(f"{bundle}: is in {target} already")
            return
        if not target.exists():
            with atomic.replacing(target) as temporary:
                shutil.copytree(folder, temporary)
            print(f"{bundle}: {target}")
            return
    raise UsageError(f"{run_root / name} and {target} exist already: give another --run_root")


if __name__ == "__main__":
    command.run(main, "bundle.py")
