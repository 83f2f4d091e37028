#!/usr/bin/env bash
# Runs one trial in the foreground, as the scheduler does. run_cls.sh and run_mrc.sh call it.
#
# BATCH_SIZE is the total over the cards in CARDS (default: one card, with gradient accumulation). Log and result go into
# the run root (RUN_ROOT, default runs/), so that grid_search.py counts the trial as done.
set -euo pipefail
name=$1
shift
if [ $# -lt 5 ]; then
    echo "usage: [CARDS=0,1] bash $name MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT [flags]" >&2
    exit 2
fi
model=$1 task=$2 learning_rate=$3 batch_size=$4 dropout=$5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$(command -v python || command -v python3)}
lines=$("$python" "$here/trial_path.py" "$@")
trial=${lines%$'\n'*} script=${lines##*$'\n'} launcher=() named=() cards=1
shift 5
if [[ $script == classification/* ]]; then named=(--task_name "$task"); fi # one script for all of them
if [[ ${CARDS:-} == *,* ]]; then
    IFS=, read -ra list <<<"$CARDS"
    cards=${#list[@]}
    launcher=(-m paddle.distributed.launch --gpus "$CARDS" --log_dir "$trial.workers")
fi
if ((batch_size % cards)); then
    echo "$name: error: batch size $batch_size can't be split over $cards cards" >&2
    exit 2
fi
task_folder=$(dirname "$trial") locks=$(dirname "$(dirname "$trial")")/.scheduler
mkdir -p "$task_folder" "$locks"
exec 9<>"$locks/$(basename "$task_folder")--$(basename "$trial").lock"
"$python" "$here/trial_path.py" --lock 9 "$trial"  # so no grid starts the trial at the same time
"$python" -u "${launcher[@]}" "$here/../$script" --model_name_or_path "$model" "${named[@]}" \
    --learning_rate "$learning_rate" --batch_size $((batch_size / cards)) --dropout "$dropout" \
    --do_train --resume --output_dir "$trial" --result_json "$trial.json" --save_best_model False "$@" \
    2>&1 | tee "$trial.log"
