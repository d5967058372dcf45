#!/usr/bin/env bash
# Runs an array of jobs on this machine, at most --max-jobs-run at once (default: one per core). Usage: job_array.sh beside this file.
set -u
. "$(dirname "$0")/job_array.sh"

set -m # a process group for each job, so that an interrupt takes down all of it
stop() {
  trap '' INT TERM
  for pid in $(jobs -p); do kill -TERM -- "-$pid" 2>/dev/null; done
  rm -rf "$files"
  exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM

: "${max_jobs_run:=$(nproc)}"
for number in $(seq "$first" "$last"); do
  while (($(jobs -rp | wc -l) >= max_jobs_run)); do wait -n; done
  "$files/job.sh" "$number" </dev/null &
done
wait
report
