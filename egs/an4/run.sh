#!/usr/bin/env bash
# an4: an hour of spelled names, numbers and addresses (CMU AN4, 1991).
#
#   ./run.sh                                            # downloads 64 MB
#   ./run.sh --corpus-dir /path/to/an4                  # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with etc/ and wav/, its audio as NIST SPHERE (default: download/an4)
set -euo pipefail

corpus_dir=download/an4
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --url http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz --to "$corpus_dir"

. "$root/utils/stages.sh"
