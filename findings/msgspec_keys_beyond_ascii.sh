#!/usr/bin/env bash
# msgspec does not find a key of Chinese characters if the type's field name was made at run time.
#
# Expected: a TypedDict or dataclass whose field names come from a file reads objects with these keys, as a Struct does.
# Happens: msgspec 0.22.0 answers "Object missing required field `正文`", although the key is there. Field names written in
#   source code work, and so do ASCII names.
# Matters: columns of a data set are often named in its own language. A schema that is built from the list of columns
#   refuses every row, and the message names a field that the row has.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q msgspec==0.22.0 2>/dev/null
"$folder/venv/bin/python" - <<'PY'
from dataclasses import make_dataclass
from importlib.metadata import version
from typing import TypedDict

import msgspec


def name():
    return b"\xe6\xad\xa3\xe6\x96\x87".decode()  # 正文, as it comes from a file


kinds = {
    "TypedDict": TypedDict("Row", {name(): str}),
    "dataclass": make_dataclass("Row", [(name(), str)]),
    "Struct": msgspec.defstruct("Row", [(name(), str)]),
    "TypedDict of ASCII": TypedDict("Row", {b"text".decode(): str}),
}
refused = []
for kind, row in kinds.items():
    key = "text" if "ASCII" in kind else name()
    for read in (lambda: msgspec.convert({key: "a"}, row), lambda: msgspec.json.decode(f'{{"{key}": "a"}}', type=row)):
        try:
            read()
            print(f"{kind}: read")
        except msgspec.ValidationError as error:
            refused.append(kind)
            print(f"{kind}: {error}")
print(f"msgspec {version('msgspec')}")
assert refused == ["TypedDict", "TypedDict", "dataclass", "dataclass"]
PY
