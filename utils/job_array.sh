# Sourced by run.pl, slurm.pl and queue.pl, whose names and usage are Kaldi's; they are bash all the same, for then nothing needs Perl.
#
#   run.pl [--max-jobs-run N] [--mem 4G] [--num-threads N] [--gpu N] [--options "..."] [JOB=1:10] LOG COMMAND [ARGUMENT ...]
#
# runs COMMAND once for each number, which takes the place of JOB in LOG and in all arguments, and waits. Arguments reach the command as
# they are; one that is just an operator of the shell ('|', '>', '&&', ...) is that. LOG gets the command, its output, start, end and status.
# The exit status is 1 if a job failed; the logs of those that did are named. mem, num-threads, gpu: what a job needs, for schedulers;
# options: more of the scheduler's own.
#
# Sets max_jobs_run mem num_threads gpu options, first last (of the numbers) and files, a directory on the same disk as the logs with
# job.sh, which runs the job whose number it is given. The sourcing script starts them all, waits, and calls report.
# patience: seconds by which a shared disk may show a job's status too late.
max_jobs_run='' mem='' num_threads=1 gpu=0 options='' patience=0 runner=${0##*/}

usage() {
  echo "error: $runner: $1" >&2
  sed -n 's/^#   run.pl /usage: '"$runner"' /p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

while [[ ${1:-} == --* ]]; do
  [ $# -ge 2 ] || usage "option $1 needs a value"
  case $1 in
    --max-jobs-run | --mem | --num-threads | --gpu | --options) name=${1#--}; printf -v "${name//-/_}" '%s' "$2" ;;
    *) usage "no option $1" ;;
  esac
  shift 2
done
variable='' first=1 last=1
if [[ ${1:-} =~ ^([A-Za-z_]+)=([0-9]+):([0-9]+)$ ]]; then
  variable=${BASH_REMATCH[1]} first=${BASH_REMATCH[2]} last=${BASH_REMATCH[3]}
  if ((first < 1 || first > last)); then usage "$1: jobs count from 1 up"; fi
  shift
fi
[ $# -ge 2 ] || usage "name a log file and a command"
log=$1
shift
if [[ $last != "$first" && $log != *"$variable"* ]]; then usage "the log $log needs $variable in its name: each job has its own"; fi

# numbered TEXT N: the text with the job's number in it.
numbered() { if [ -n "$variable" ]; then echo "${1//"$variable"/$2}"; else echo "$1"; fi; }

command=
for argument; do
  case $argument in
    '|' | '||' | '&&' | ';' | '<' | '>' | '>>' | '2>' | '2>&1') command+=" $argument" ;;
    *) printf -v quoted '%q' "$argument"; command+=" $quoted" ;;
  esac
done
command=${command# }

mkdir -p "$(dirname "$log")"
files=$(mktemp -d "$(dirname "$log")/.${runner%.pl}.XXXXXX")
files=$(cd "$files" && pwd)
{
  printf '#!/usr/bin/env bash\ncd %q || exit 1\n' "$PWD"
  for number in $(seq "$first" "$last"); do
    this=$(numbered "$log" "$number")
    mkdir -p "$(dirname "$this")"
    printf 'if [ "$1" = %d ]; then\n  log=%q\n  run() { %s\n  }\nfi\n' "$number" "$this" "$(numbered "$command" "$number")"
  done
  cat <<'JOB'
{
  declare -f run | sed '1,2d;$d;s/^ */# /'
  echo "# Running on $(hostname)"
  echo "# Started at $(date)"
  SECONDS=0
  set -o pipefail
  (run)
  status=$?
  echo "# Accounting: time=$SECONDS"
  echo "# Ended (code $status) at $(date)"
} >"$log" 2>&1
JOB
  printf 'echo $status >%q/status.$1\nexit $status\n' "$files"
} >"$files/job.sh"
chmod +x "$files/job.sh"

# report: names the logs of the jobs that failed or never ended, shows the end of the first, and exits.
report() {
  local failed=() number
  for number in $(seq "$first" "$last"); do
    while ((patience > 0)) && ! [ -s "$files/status.$number" ]; do
      sleep 1
      patience=$((patience - 1))
    done
    if [ "$(cat "$files/status.$number" 2>/dev/null)" != 0 ]; then failed+=("$(numbered "$log" "$number")"); fi
  done
  rm -rf "$files"
  if [ ${#failed[@]} = 0 ]; then exit 0; fi
  echo "$runner: ${#failed[@]} of $((last - first + 1)) jobs failed: ${failed[*]}" >&2
  if [ -f "${failed[0]}" ]; then tail -n 5 "${failed[0]}" | sed 's/^/  /' >&2; fi
  exit 1
}
