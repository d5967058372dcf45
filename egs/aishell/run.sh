#!/usr/bin/env bash
# aishell: 178 hours of read Mandarin, 400 speakers (OpenSLR 33).
#
#   ./run.sh                                            # downloads 15 GB
#   ./run.sh --corpus-dir /path/to/aishell              # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with data_aishell/wav/ and data_aishell/transcript/ (default: download/aishell)
set -euo pipefail

corpus_dir=download/aishell
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --lhotse aishell --to "$corpus_dir"

. "$root/utils/stages.sh"
