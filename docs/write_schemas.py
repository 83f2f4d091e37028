"""Writes docs/schemas/: the JSON Schema of each file that other tools may want to read, from the declared types.

python docs/write_schemas.py
"""

import json
from pathlib import Path

import msgspec

from cluebench.records.dev_predictions import PredictionsFile
from cluebench.records.grid_file import GridFile
from cluebench.records.result import Result

FOLDER = Path(__file__).resolve().parent / "schemas"

#: File in docs/schemas/ → the type that it describes. A predictions file is gzipped JSON.
SCHEMAS = {"result.json": Result, "grid.json": GridFile, "predictions.json": PredictionsFile}


def text_of(kind: type) -> str:
    """The JSON Schema (2020-12). Its patterns end in ``$``, which Python writes as ``\\Z``."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}
    return json.dumps(schema, indent=1, ensure_ascii=False).replace(r"\\Z", "$") + "\n"


if __name__ == "__main__":
    for name, kind in SCHEMAS.items():
        (FOLDER / name).write_text(text_of(kind), encoding="utf-8")
