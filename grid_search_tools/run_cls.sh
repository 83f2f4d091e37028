#!/usr/bin/env bash
# Runs one classification trial in the foreground. Flags of run_clue_classifier.py may follow:
#     bash run_cls.sh ernie-3.0-base-zh TNEWS 3e-5 32 0.1 --data_dir ~/clue
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_trial.sh" run_cls.sh "$@"
