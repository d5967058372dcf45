#!/usr/bin/env bash
# timit: five hours of read English with a transcript of its phones (LDC93S1).
#
# The corpus has to be bought from the LDC.
#
#   ./run.sh --corpus-dir /path/to/TIMIT
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with data/TRAIN and data/TEST (default: download/timit)
set -euo pipefail

corpus_dir=download/timit
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --to "$corpus_dir"

. "$root/utils/stages.sh"
