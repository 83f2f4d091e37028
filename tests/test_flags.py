import ast
import re
from dataclasses import dataclass
from fractions import Fraction

import pytest

from cluebench.foundation.flags import flag, parse
from tests.conftest import ROOT


@dataclass
class Flags:
    """Does something."""

    models: list[str] = flag([], "models", positional=True)
    name: str = flag("x", "a name", choices=("x", "y"))
    rate: float = flag(3e-5, "a rate", minimum=0, maximum=1)
    steps: int | None = flag(None, "steps", minimum=1, default_text="the task's")
    sizes: list[int] = flag([16, 32], "sizes", minimum=1)
    train: bool = flag(False, "train")
    save: bool = flag(True, "save")
    shares: list[Fraction] = flag([Fraction(1, 2)], "shares", above=0, maximum=1)


@pytest.fixture(autouse=True)
def program(monkeypatch):
    monkeypatch.setattr("sys.argv", ["prog"])


def parsed(*argv: str) -> Flags:
    return parse(Flags, list(argv))


def test_defaults_and_types():
    flags = parsed()
    assert flags == Flags([], "x", 3e-5, None, [16, 32], False, True, [Fraction(1, 2)])
    flags = parsed("a", "b/c", "--rate", "1e-5", "--steps", "7", "--sizes", "8,16", "--train", "--save", "False")
    assert flags == Flags(["a", "b/c"], "x", 1e-5, 7, [8, 16], True, False, [Fraction(1, 2)])


def test_lists_take_spaces_and_commas_and_drop_repeats():
    assert parsed("--sizes", "8", "16,32", "8").sizes == [8, 16, 32]
    assert parsed("--shares", "1/3,0.1").shares == [Fraction(1, 3), Fraction(1, 10)]  # exact


@pytest.mark.parametrize(
    "argv, named",
    [
        (["--rate", "fast"], "--rate"),
        (["--rate", "-1"], "--rate -1"),
        (["--rate", "1.5"], "at most 1"),
        (["--rate", "nan"], "finite"),
        (["--steps", "2.5"], "whole number"),
        (["--steps", "0"], "--steps 0"),
        (["--name", "z"], "choose from x, y"),
        (["--save", "maybe"], "neither True nor False"),
        (["--sizes", ""], "--sizes '': names nothing"),
        (["--sizes", "16,x"], "'x' is not a whole number"),
        (["--shares", "1/0"], "'1/0' is not a number or a fraction such as 1/4"),
        (["--shares", "1/4,0"], "--shares 0: must be more than 0"),
        (["--shares", "3/2"], "--shares 3/2: must be at most 1"),
        (["--unknown", "1"], "--unknown"),
        (["--rat", "0.1"], "--rat"),
    ],
)
def test_wrong_values_get_one_line_and_exit_code_2(argv, named, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(*argv)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.count("\n") == 1 and error.startswith("prog: error:") and named in error


@pytest.mark.parametrize(
    "argv, meant",
    [
        (["--rates", "1"], "--rate"),
        (["--modle_name", "m"], "--model_name_or_path"),
        (["--model", "m"], "--model_name_or_path"),
        (["--lr", "1"], "--learning_rate"),
        (["--learning-rate=1"], "--learning_rate"),
        (["--epochs", "1"], "--num_train_epochs"),
        (["-lr", "1"], "--learning_rate"),
        (["--Steps", "1"], "--steps"),
        (["--zzz", "1"], None),
    ],
)
def test_the_right_name_of_an_unknown_flag_is_suggested(argv, meant, capsys):
    """Even where one that is required is missing."""

    @dataclass
    class Named(Flags):
        model_name_or_path: str = flag(..., "a model")
        learning_rate: float = flag(1.0, "a rate")
        num_train_epochs: int = flag(1, "epochs")

    with pytest.raises(SystemExit):
        parse(Named, argv)
    message = f"prog: error: unrecognized arguments: {argv[0].split('=')[0]}"
    message += f"; did you mean {meant}" if meant else " (--help lists the flags)\n"
    assert (error := capsys.readouterr().err).startswith(message) and error.count("\n") == 1


def test_help_says_defaults(capsys):
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert "Does something." in text and "(default: 3e-05)" in text and "(default: the task's)" in text
    assert "(default: 16,32)" in text


@pytest.mark.parametrize(
    "script", sorted(ROOT.glob("classification/*.py")) + sorted(ROOT.glob("mrc/*.py")), ids=lambda path: path.stem
)
def test_examples_in_help_texts_keep_their_line_breaks(script):
    """So that they can be pasted."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    first, second = re.search(r"\n    (python .*)\n        (.*)\n", text).groups()
    assert first.endswith(" \\") and second.startswith("--")


def test_required_flag_is_named():
    @dataclass
    class Required:
        model: str = flag(..., "the model")

    with pytest.raises(SystemExit):
        parse(Required, [])
    assert parse(Required, ["--model", "m"]).model == "m"


def test_an_error_is_one_line_of_at_most_500_characters(capsys, run_command):
    with pytest.raises(SystemExit):
        parsed("--name", "long\n" * 1000)
    lines = [capsys.readouterr().err]
    lines.append(run_command("mrc/run_c3.py", "--do_train", "--model_name_or_path", "a" * 3000).err)
    lines.append(run_command("grid_search_tools/compare.py", "a" * 3000, "b").err)
    for line in lines:
        assert "error: " in line and line.count("\n") == 1 and len(line) <= 501 and " … " in line
