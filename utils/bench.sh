#!/usr/bin/env bash
# Runs the benchmarks, tests/benchmarks/bench_*.py, each a program that prints one table.
#
#   [VENV=.venv] utils/bench.sh [NAME...]     all of them, or bench_NAME.py only
set -euo pipefail
shopt -s nullglob
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-.venv}
[[ $venv == /* ]] || venv=$root/$venv
programs=("$root"/tests/benchmarks/bench_*.py)
(($# == 0)) || programs=("${@/#/$root/tests/benchmarks/bench_}") programs=("${programs[@]/%/.py}")
((${#programs[@]})) || { echo "there are no tests/benchmarks/bench_*.py" >&2; exit 1; }
for program in "${programs[@]}"; do
    echo "== ${program##*/}"
    PYTHONPATH=$root "$venv/bin/python" "$program"
done
