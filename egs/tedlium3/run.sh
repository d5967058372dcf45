#!/usr/bin/env bash
# tedlium3: 452 hours of English talks (TED-LIUM 3, OpenSLR 51).
#
#   ./run.sh                                            # downloads 54 GB
#   ./run.sh --corpus-dir /path/to/TEDLIUM_release-3    # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with legacy/train, legacy/dev and legacy/test (default: download/tedlium3)
set -euo pipefail

corpus_dir=download/tedlium3
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --lhotse tedlium --to "$corpus_dir"

. "$root/utils/stages.sh"
