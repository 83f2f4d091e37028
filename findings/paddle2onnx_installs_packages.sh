#!/usr/bin/env bash
# paddle2onnx.export installs packages into the Python that runs it.
#
# Expected: a conversion of one file into another changes nothing else, and uses the installed packages.
# Happens: paddle2onnx 2.1.0 folds constants with polygraphy by default. For this it overwrites POLYGRAPHY_AUTOINSTALL_DEPS with 1,
#   and polygraphy runs "python -m pip install" for onnx_graphsurgeon and onnxruntime: the newest versions, without
#   the user's constraints. With optimize_tool="none" it installs nothing, and the graph computes the same.
# Matters: an export changes the versions in a pinned environment, and on a machine without network it waits until pip gives up.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 "numpy<2" "setuptools<80" 2>/dev/null
packages() { "$folder/venv/bin/pip" list --format=freeze 2>/dev/null | sort; }
cat > "$folder/export.py" <<'PY'
import sys
import paddle, paddle2onnx

folder, tool = sys.argv[1:]
model = paddle.nn.Sequential(paddle.nn.Linear(4, 3), paddle.nn.Softmax())
model.eval()
paddle.jit.save(model, f"{folder}/graph", input_spec=[paddle.static.InputSpec([None, 4], "float32")])
paddle2onnx.export(f"{folder}/graph.json", f"{folder}/graph.pdiparams", f"{folder}/{tool}.onnx", opset_version=17, optimize_tool=tool)
print("paddle", paddle.__version__, "paddle2onnx", paddle2onnx.__version__, "optimize_tool", tool)
PY
packages > "$folder/before"
"$folder/venv/bin/python" "$folder/export.py" "$folder" none 2>/dev/null | tail -1
packages > "$folder/none"
"$folder/venv/bin/python" "$folder/export.py" "$folder" polygraphy 2>/dev/null | tail -1
packages > "$folder/default"
cmp "$folder/before" "$folder/none" && echo "optimize_tool=none installed nothing"
echo "the default installed:"; comm -13 "$folder/none" "$folder/default"
comm -13 "$folder/none" "$folder/default" | grep -qi "^onnx.graphsurgeon=="
