#!/usr/bin/env bash
# Runs one reading comprehension trial in the foreground. Flags of the task's script may follow:
#     CARDS=0,1,2,3 bash run_mrc.sh ernie-3.0-base-zh C3 2e-5 24 0.1 --data_dir ~/clue
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_trial.sh" run_mrc.sh "$@"
