"""Commands started with a Python that can't run them: one line that says which can, and no traceback."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cluebench
from tests.conftest import ROOT

COMMANDS = [
    path for folder in ("classification", "mrc", "grid_search_tools") for path in sorted((ROOT / folder).glob("*.py"))
]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A repository that holds what an old Python reads, without an environment."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "cluebench").mkdir()
    (folder / "cluebench" / "__init__.py").write_text(Path(cluebench.__file__).read_text())
    for command in COMMANDS:
        place = folder / command.relative_to(ROOT)
        place.parent.mkdir(exist_ok=True)
        place.write_text(command.read_text())
    for link in {command.parent / "cluebench" for command in COMMANDS}:
        (folder / link.relative_to(ROOT)).symlink_to(os.readlink(link))
    return folder


def refused(command):
    """What a command prints when a Python without site-packages runs it."""
    ended = subprocess.run([sys.executable, "-S", command, "--help"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    return ended.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.name)
def test_every_command_says_which_python_to_take(command, bare):
    command = bare / command.relative_to(ROOT)
    missing = ", ".join(cluebench.NEEDED)
    assert f"lacks {missing}; make the environment: cd {bare} && make quickstart" in refused(command)
    python = bare / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    try:
        assert f"type {python} in place of python, or first: source {bare}/.venv/bin/activate" in refused(command)
    finally:
        python.unlink()
        python.parent.rmdir()
        python.parent.parent.rmdir()


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 13, 0)])
def test_a_program_with_another_python_gets_an_import_error(version, bare):
    code = f"import sys; sys.version_info = {version}; sys.path.insert(0, sys.argv[1])"
    program = f"{code}\ntry:\n    import cluebench\nexcept ImportError as error:\n    print('goes on:', error)"
    ended = subprocess.run([sys.executable, "-c", program, bare], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "") and ended.stdout.startswith("goes on: ")
    assert f"Python {'.'.join(map(str, version))} " in ended.stdout
    assert "for 3.10, 3.11 and 3.12; make the" in ended.stdout


def test_what_stands_before_the_check_can_be_read_by_old_pythons():
    for path in (*COMMANDS, ROOT / "cluebench" / "__init__.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("name", ["paddle", "paddlenlp"])
def test_an_environment_without_paddle_is_one_line(name, tmp_path):
    (tmp_path / f"{name}.py").write_text(f"raise ImportError('No module named {name}')\n")
    ended = subprocess.run(
        [sys.executable, ROOT / "classification" / "run_clue_classifier_trainer.py", "--help"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert f"can't import Paddle (No module named {name})" in ended.stderr and "doctor.py" in ended.stderr


@pytest.mark.parametrize("folder, threads", [("grid_search_tools", "1"), ("elsewhere", "None")])
def test_only_commands_limit_the_threads_of_numpy(folder, threads):
    code = (
        f"import __main__, os; __main__.__file__ = {str(ROOT / folder / 'command.py')!r}; import cluebench; "
        "print(os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert ended.stdout.strip() == threads
