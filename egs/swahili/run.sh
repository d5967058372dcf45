#!/usr/bin/env bash
# swahili: 463 utterances, 2.19 hours, speakers: none known.
#
#   ./run.sh                                  # fetches the corpus
#   ./run.sh --corpus-dir /path/to/swahili    # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    where the corpus lies (default: download/swahili)
set -euo pipefail

corpus_dir=download/swahili
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --url https://github.com/CateGitau/Swahili-Speech/archive/HEAD.tar.gz --to "$corpus_dir"

. "$root/utils/stages.sh"
