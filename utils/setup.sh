# Sourced by every recipe after it has set its options' defaults: options, environment, stage().
#
# Options every recipe has, beside its own:
#   --stage N --stop-stage N   run only these stages (0 to 9)
#   --config FILE              the experiment's YAML file
#   --set KEY=VALUE            override one key of it; may be repeated
#   --data-dir DIR             manifests, features, language directory
#   --exp-dir DIR              the experiment (default: exp/<name in the config>)
#   --results-dir DIR          where ledger.jsonl and RESULTS.md go (default: the recipe's own)
#   --lm-text FILE             text for the language models, a sentence a line, beside the training transcripts
#   --nj N                     compute features and decode as arrays of N jobs (default: 1, no array)
#   --cmd COMMAND              what runs an array: run.pl (the default), "run.pl --max-jobs-run 4", "slurm.pl --mem 8G", queue.pl
#   --processes N              processes to train with, one per GPU (default: 1); set train.batches_per_step to N or a multiple
: "${stage:=0}" "${stop_stage:=9}" "${lm_text:=}" "${processes:=1}" "${nj:=1}" "${cmd:=run.pl}" "${config:=conf/base.yaml}" "${data_dir:=data}" "${exp_dir:=}" "${results_dir:=.}"
overrides=() text=() test_splits=(test)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/utils/parse_options.sh"
cd "$(dirname "$0")"

venv=${VENV:-.venv}
case $venv in /*) ;; *) venv=$root/$venv ;; esac
if [ -x "$venv/bin/python" ] && [ ! -e "$venv/.incomplete" ]; then PATH=$venv/bin:$PATH; fi
PATH=$root/utils:$PATH
export PATH PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
local="$root/local"
installed='from importlib.util import find_spec; exit(not (find_spec("asr") and find_spec("torch")))'
if ! command -v python >/dev/null || ! python -c "$installed" 2>/dev/null; then
  echo "error: no Python with the toolkit's packages found; run 'make env' in $root first" >&2
  exit 2
fi

# in_jobs NAME command...: with --nj N, the command as an array of N jobs, each with its number; then the command, which joins their parts.
in_jobs() {
  local name=$1
  shift
  # shellcheck disable=SC2086  # the command and its options
  if [ "$nj" != 1 ]; then ${cmd#utils/} JOB=1:"$nj" "${exp_dir:-exp}/log/$name.JOB.log" "$@" --job JOB --jobs "$nj"; fi
  "$@"
}

# What every program is told: which experiment, and where its files lie.
experiment=(--config "$config" --data-dir "$data_dir")
if [ -n "$exp_dir" ]; then experiment+=(--exp-dir "$exp_dir"); fi
for override in ${overrides[@]+"${overrides[@]}"}; do experiment+=(--set "$override"); done

# stage N "title" command...: runs the command if N lies between --stage and --stop-stage. Stages skip what is up to date themselves.
stage() {
  local number=$1 title=$2
  shift 2
  if ((number < stage || number > stop_stage)); then return 0; fi
  echo "== stage $number: $title ($(date +%T))"
  "$@"
}
