#!/usr/bin/env bash
# fleurs: ten hours of read Wikipedia sentences in each of 102 languages (FLEURS).
#
#   ./run.sh --language sw_ke                                 # downloads one language
#   ./run.sh --language sw_ke --corpus-dir /path/to/fleurs    # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with metadata/LANGUAGE/ and LANGUAGE/train/ (default: download/fleurs_LANGUAGE)
#   --language NAME     as FLEURS names it (default: sw_ke, Swahili in Kenya)
set -euo pipefail

corpus_dir=
language=sw_ke
. "$(dirname "$0")/../../utils/setup.sh"

: "${corpus_dir:=download/fleurs_$language}"
stage 0 "the corpus" \
  python "$local/download_corpus.py" --lhotse fleurs --option "languages=$language" --to "$corpus_dir"

corpus_dir=$corpus_dir/$language
. "$root/utils/stages.sh"
