#!/usr/bin/env bash
# The best-score table of a model:  bash extract_result.sh ernie-3.0-base-zh [--run_root DIR] [--published]
# The argument is a model of the run root, or any directory that holds <task>/<lr>_<batch>_<dropout>.log files.
exec "${PYTHON:-$(command -v python || command -v python3)}" "$(dirname "${BASH_SOURCE[0]}")/extract_result.py" "$@"
