#!/usr/bin/env bash
# Runs an array of jobs by Grid Engine's qsub, and waits for them. Usage: job_array.sh beside this file; --options "-q long.q" goes to qsub.
set -u
. "$(dirname "$0")/job_array.sh"
patience=10

request=(-t "$first-$last" -S /bin/bash -N "$(basename "${log%%.*}")" -j y -o /dev/null)
if [ -n "$max_jobs_run" ]; then request+=(-tc "$max_jobs_run"); fi
if [ -n "$mem" ]; then request+=(-l "mem_free=$mem"); fi
if [ "$num_threads" != 1 ]; then request+=(-pe smp "$num_threads"); fi
if [ "$gpu" != 0 ]; then request+=(-l "gpu=$gpu"); fi
printf '#!/usr/bin/env bash\nexec %q "$SGE_TASK_ID"\n' "$files/job.sh" >"$files/array.sh"
# shellcheck disable=SC2086  # options are words
qsub -sync y -V "${request[@]}" $options "$files/array.sh" >"$files/said" # an interrupt makes qsub delete the job
report
