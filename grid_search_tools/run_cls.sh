#!/usr/bin/env bash
# One classification trial in the foreground, as the scheduler starts it:
#
#     bash run_cls.sh MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT [further flags of run_clue_classifier.py]
#     bash run_cls.sh ernie-3.0-base-zh TNEWS 3e-5 32 0.1 --data_dir ~/clue
#
# Log and result go where the grid keeps them (RUN_ROOT, default runs/), so that grid_search.py counts the trial as done.
set -euo pipefail
if [ $# -lt 5 ]; then
    echo "usage: bash run_cls.sh MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT [flags]" >&2
    exit 2
fi
model=$1 task=$2 learning_rate=$3 batch_size=$4 dropout=$5
shift 5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$(command -v python || command -v python3)}
trial=$("$python" "$here/trial_path.py" "$model" "$task" "$learning_rate" "$batch_size" "$dropout" "$@")
task_folder=$(dirname "$trial") locks=$(dirname "$(dirname "$trial")")/.scheduler
mkdir -p "$task_folder" "$locks"
exec 9<>"$locks/$(basename "$task_folder")--$(basename "$trial").lock"
"$python" "$here/trial_path.py" --lock 9 "$trial"  # a grid leaves the trial alone meanwhile
"$python" -u "$here/../classification/run_clue_classifier.py" \
    --model_name_or_path "$model" --task_name "$task" \
    --learning_rate "$learning_rate" --batch_size "$batch_size" --dropout "$dropout" \
    --do_train --resume --output_dir "$trial" --result_json "$trial.json" --save_best_model False "$@" \
    2>&1 | tee "$trial.log"
