#!/usr/bin/env bash
# PaddleNLP's F1 of Chinese answers reads them up to the first blank.
#
# Expected: squad_evaluate(..., is_whitespace_splited=False), which PaddleNLP names for Chinese, compares the characters of whole
#   answers. A wrong answer has an F1 below 100.
# Happens: in PaddleNLP 3.0.0b4 it splits both answers at blanks and keeps the first piece: "Windows 病毒" for "Windows 系统" has an F1
#   of 100. Characters are counted without their order, unlike CMRC2018's official script. And where rows have
#   "is_impossible", questions with an answer are reported as NoAns, and those without one as HasAns.
# Matters: 79 of CMRC2018's 3,219 dev questions have an answer with a blank. The F1 is too high, and it differs from the
#   leaderboard's. Blanks do not change the exact match.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
from importlib.metadata import version

import paddle
from paddlenlp.metrics.squad import squad_evaluate

print("paddle", paddle.__version__, "paddlenlp", version("paddlenlp"))


def scores(answers, predictions, **other):
    rows = [{"id": str(row), "answers": {"text": text, "answer_start": [0] * len(text)}, **{key: value[row] for key, value in other.items()}}
            for row, text in enumerate(answers)]
    return squad_evaluate(examples=rows, preds=dict(zip("01", predictions)), is_whitespace_splited=False)


f1 = {}
for answer, prediction in (("Windows 系统", "Windows 病毒"), ("2008年 8月8日", "2008年 9月"), ("北京", "京北"), ("北京大学", "北京")):
    found = scores([[answer]], [prediction])
    f1[prediction] = found["f1"]
    print(f"answer {answer!r}, prediction {prediction!r}: exact {found['exact']:.1f}, F1 {found['f1']:.1f}")
assert list(f1.values())[:3] == [100, 100, 100] and 66 < f1["北京"] < 67
found = scores([["北京"], []], ["北京", "上海"], is_impossible=[False, True])
print(f"a right answer, and an answer to an impossible question: HasAns F1 {found['HasAns_f1']}, NoAns F1 {found['NoAns_f1']}")
assert (found["HasAns_f1"], found["NoAns_f1"]) == (0, 100)
PY
