"""The JSON Schemas in docs/ are those of the declared types, and what is written fits them."""

import gzip
import json
import re
import runpy

import numpy as np
import pytest

from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.result import DevPoint, Result
from tests.sources import ROOT

WRITER = runpy.run_path(str(ROOT / "docs" / "write_schemas.py"))
SETTINGS = {"task": "tnews", "learning_rate": 3e-5, "seed": 42}


@pytest.mark.parametrize("name", WRITER["SCHEMAS"])
def test_docs_hold_the_schema_of_the_declared_type(name):
    kept = (ROOT / "docs" / "schemas" / name).read_text(encoding="utf-8")
    assert kept == WRITER["text_of"](WRITER["SCHEMAS"][name]), "run: python docs/write_schemas.py"
    assert not re.search(r"\\\\Z", kept)  # a pattern of Python's only


def schema(name):
    return json.loads((ROOT / "docs" / "schemas" / name).read_text(encoding="utf-8"))


def test_a_result_fits_its_schema_and_a_changed_one_does_not(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    result = Result("tnews", "m", SETTINGS, "abc", "done", best_score=(57.0,), dev_curve=[DevPoint(1, 0, (57.0,))])
    result.write(tmp_path / "result.json")
    content = json.loads((tmp_path / "result.json").read_text())
    jsonschema.validate(content, schema("result.json"))
    for key, wrong in {"status": "fine", "best_score": [157.0], "total_steps": -1}.items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | {key: wrong}, schema("result.json"))


def test_predictions_fit_their_schema(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    made = DevPredictions.of_choices(range(2), np.array([1, 0]), np.array([1, 1]))
    made.write(tmp_path / "a.predictions", SETTINGS, 3)
    content = json.loads(gzip.decompress((tmp_path / "a.predictions").read_bytes()))
    jsonschema.validate(content, schema("predictions.json"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"format": 2}, schema("predictions.json"))
