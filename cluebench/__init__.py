"""Fine-tune Chinese pretrained language models over the ten tasks of the CLUE benchmark, on PaddlePaddle.

The folders of commands hold a link to this package, so every Python finds it. If a Python can't run the commands, this
file says in one line which one can. Therefore old Pythons must be able to read it, too.
"""

import importlib.util
import os
import sys

#: The version of the package, in results and in the keys of the feature cache.
__version__ = "0.2.0"

#: Versions of Python that the pinned packages are for.
PYTHONS = ((3, 10), (3, 11), (3, 12))

#: The libraries that everything but models and training imports.
NEEDED = (
    "filelock", "jinja2", "msgspec", "numpy", "packaging", "plotly", "psutil", "requests", "rich", "safetensors",
    "scipy", "tqdm",
)  # fmt: skip

_REPOSITORY = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def python_beside() -> "str | None":
    """The Python of the repository's environment; None without one, and if it runs this."""
    environment = os.path.join(_REPOSITORY, ".venv")
    python = os.path.join(environment, "bin", "python")
    return python if os.path.exists(python) and os.path.realpath(sys.prefix) != environment else None


def _why_not_this_python() -> "str | None":
    """One line on what to type in place of this Python; None if it can run the commands."""
    version = ".".join(map(str, sys.version_info[:3]))
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if sys.version_info[:2] not in PYTHONS:
        reason = f"Python {version} ({sys.executable}): the pinned packages are for 3.10, 3.11 and 3.12"
    elif missing:
        reason = "Python {} ({}) lacks {}".format(version, sys.executable, ", ".join(missing))
    else:
        return None
    if python_beside():
        return f"{reason}; type {python_beside()} in place of python, or first: source {_REPOSITORY}/.venv/bin/activate"
    made = "rm -rf .venv && " if os.path.exists(os.path.join(_REPOSITORY, ".venv")) else ""
    return f"{reason}; make the environment: cd {_REPOSITORY} && {made}make quickstart (with GPUs as README.md says)"


def _is_command() -> bool:
    """Whether a command of this repository runs, not an interpreter or a user's program."""
    folder = os.path.dirname(os.path.realpath(getattr(sys.modules.get("__main__"), "__file__", None) or ""))
    return folder in [os.path.join(_REPOSITORY, name) for name in ("classification", "mrc", "grid_search_tools")]


_REFUSAL = _why_not_this_python()
if _REFUSAL and _is_command():
    sys.stderr.write("error: " + _REFUSAL + "\n")
    sys.exit(2)
if _REFUSAL:
    raise ImportError(_REFUSAL)
if _is_command():
    # Threads of numpy's BLAS wait busily after each product, on cores that trials need. Read when numpy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
