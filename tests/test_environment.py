"""What the import of PaddleNLP leaves out, and that it can still be had."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

UNUSED = (
    "click", "datasets", "fastapi", "jieba", "pandas", "pkg_resources", "scipy.linalg", "sklearn", "seqeval", "setuptools"
)  # fmt: skip


def output_of(program: str) -> str:
    whole = f"import sys\nfrom cluebench.foundation import environment\nenvironment.import_paddle()\n{program}"
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True).stdout


def test_packages_that_no_score_needs_are_not_imported():
    program = f"import cluebench.training.run\nprint([name for name in {UNUSED} if name in sys.modules])"
    assert output_of(program) == "[]\n"


def test_the_garbage_collector_works_but_leaves_out_what_was_imported():
    program = "import gc\nprint(gc.isenabled(), len(gc.get_objects()) < gc.get_freeze_count())"
    assert output_of(program) == "True True\n"


@pytest.mark.parametrize(
    "program",
    [
        "import cluebench.training.paddlenlp_trainer as ours\nprint(ours.Trainer.__module__)",
        "import cluebench.training.paddlenlp_arguments as ours\nprint(ours.TrainingArguments.__module__)",
        "from paddlenlp.metrics import ChunkEvaluator\nprint(ChunkEvaluator.__module__)",
        "from paddlenlp.taskflow import Taskflow\nprint(Taskflow.__module__)",
        "import paddlenlp\ntry: paddlenlp.Taskflow('none')\nexcept AssertionError as error: print('paddlenlp.', error)",
    ],
)
def test_they_are_when_someone_asks(program):
    assert output_of(program).startswith("paddlenlp.")


def test_a_function_of_a_module_that_was_put_off_imports_it():
    program = """
from paddlenlp.transformers.glm import tokenizer as glm
from paddlenlp.transformers.roformer import tokenizer as roformer
import scipy.linalg
print(glm.block_diag([[1]], [[2]]).tolist(), list(roformer.jieba.cut("他们是学生")), scipy.linalg.__name__)
"""
    assert output_of(program) == "[[1, 0], [0, 2]] ['他们', '是', '学生'] scipy.linalg\n"
