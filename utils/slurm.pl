#!/usr/bin/env bash
# Runs an array of jobs by Slurm's sbatch, and waits for them. Usage: job_array.sh beside this file; --options "-p long" goes to sbatch.
set -u
. "$(dirname "$0")/job_array.sh"
patience=10

array=$first-$last${max_jobs_run:+%$max_jobs_run}
request=(--array "$array" --cpus-per-task "$num_threads" --job-name "$(basename "$log")" --output /dev/null)
if [ -n "$mem" ]; then request+=(--mem "$mem"); fi
if [ "$gpu" != 0 ]; then request+=(--gres "gpu:$gpu"); fi
printf '#!/usr/bin/env bash\nexec %q "$SLURM_ARRAY_TASK_ID"\n' "$files/job.sh" >"$files/array.sh"
# shellcheck disable=SC2086  # options are words
sbatch --parsable --wait "${request[@]}" $options "$files/array.sh" >"$files/id" &
trap 'scancel "$(cut -d ";" -f 1 "$files/id")"; wait; rm -rf "$files"; exit 130' INT TERM
wait $!
report
