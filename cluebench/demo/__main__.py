"""Writes the embedded model and data, with which the whole tool runs anywhere in minutes.

    python -m cluebench.demo demo

makes demo/model, a randomly initialised 2-layer ERNIE, and demo/data, synthetic data sets in the official formats.
Their scores say nothing about any pretrained model. What is there already and whole is kept.
"""

from dataclasses import dataclass

from cluebench.demo import directory
from cluebench.foundation import command
from cluebench.foundation.flags import flag, parse, refuse_unwritable


@dataclass
class DemoFlags:
    __doc__ = __doc__

    folder: str = flag("demo", "directory to write model/ and data/ into", positional=True, writes="directory")


def main() -> None:
    flags = parse(DemoFlags)
    refuse_unwritable(flags)
    model, data = directory.write(flags.folder)
    print(f"model: {model}\ndata: {data}")


if __name__ == "__main__":
    command.run(main)
