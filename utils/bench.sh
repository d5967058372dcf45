#!/usr/bin/env bash
# Runs the benchmarks, each of which prints one table.
#
#   [VENV=.venv] utils/bench.sh [NAME [OPTION...]]     all of them, or one: what 'asr bench' does in the environment VENV
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-.venv}
[[ $venv == /* ]] || venv=$root/$venv
PYTHONPATH=$root exec "$venv/bin/python" -m asr bench "$@"
