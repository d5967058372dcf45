#!/usr/bin/env bash
# commonvoice: sentences read by volunteers in a hundred languages (Mozilla Common Voice).
#
# The corpus has to be fetched by hand: its publisher asks for an account (commonvoice.mozilla.org).
#
#   ./run.sh --corpus-dir /path/to/cv-corpus-17.0-2024-03-15/sw         # the folder of one language
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with train.tsv, dev.tsv, test.tsv and clips/ (default: download/commonvoice)
set -euo pipefail

corpus_dir=download/commonvoice
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --to "$corpus_dir"

. "$root/utils/stages.sh"
