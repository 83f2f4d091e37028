#!/usr/bin/env bash
# One reading comprehension trial in the foreground, as the scheduler starts it:
#
#     bash run_mrc.sh MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT [further flags of the task's script]
#     CARDS=0,1,2,3 bash run_mrc.sh ernie-3.0-base-zh C3 2e-5 24 0.1 --data_dir ~/clue
#
# BATCH_SIZE is the total over the cards in CARDS (default: one card, the batch reached by accumulation). Log and result
# go where the grid keeps them (RUN_ROOT, default runs/), so that grid_search.py counts the trial as done.
set -euo pipefail
if [ $# -lt 5 ]; then
    echo "usage: [CARDS=0,1] bash run_mrc.sh MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT [flags]" >&2
    exit 2
fi
model=$1 task=$(echo "$2" | tr '[:upper:]' '[:lower:]') learning_rate=$3 batch_size=$4 dropout=$5
shift 5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$(command -v python || command -v python3)}
trial=$("$python" "$here/trial_path.py" "$model" "$task" "$learning_rate" "$batch_size" "$dropout" "$@")
launcher=() cards=1
if [[ ${CARDS:-} == *,* ]]; then
    IFS=, read -ra list <<<"$CARDS"
    cards=${#list[@]}
    launcher=(-m paddle.distributed.launch --gpus "$CARDS" --log_dir "$trial.workers")
fi
if ((batch_size % cards)); then
    echo "run_mrc.sh: error: batch size $batch_size can't be split over $cards cards" >&2
    exit 2
fi
task_folder=$(dirname "$trial") locks=$(dirname "$(dirname "$trial")")/.scheduler
mkdir -p "$task_folder" "$locks"
exec 9<>"$locks/$(basename "$task_folder")--$(basename "$trial").lock"
"$python" "$here/trial_path.py" --lock 9 "$trial"  # a grid leaves the trial alone meanwhile
"$python" -u "${launcher[@]}" "$here/../mrc/run_$task.py" \
    --model_name_or_path "$model" \
    --learning_rate "$learning_rate" --batch_size $((batch_size / cards)) --dropout "$dropout" \
    --do_train --resume --output_dir "$trial" --result_json "$trial.json" --save_best_model False "$@" \
    2>&1 | tee "$trial.log"
