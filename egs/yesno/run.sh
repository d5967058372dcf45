#!/usr/bin/env bash
# yesno: sixty recordings of eight Hebrew yeses and noes each (OpenSLR 1), the smallest real corpus there is.
#
#   ./run.sh                                         # downloads the corpus; a few minutes on two cores
#   ./run.sh --corpus-dir /path/to/waves_yesno       # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with the 60 WAV files (default: download/waves_yesno)
set -euo pipefail

corpus_dir=download/waves_yesno
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --url https://www.openslr.org/resources/1/waves_yesno.tar.gz --to "$corpus_dir"

. "$root/utils/stages.sh"
