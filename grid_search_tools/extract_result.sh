#!/usr/bin/env bash
# Prints the best-score table of a model:  bash extract_result.sh ernie-3.0-base-zh [--run_root DIR] [--published]
# The argument is a model in the run root, or a directory with <task>/<lr>_<batch>_<dropout>.log files.
exec "${PYTHON:-$(command -v python || command -v python3)}" "$(dirname "${BASH_SOURCE[0]}")/extract_result.py" "$@"
