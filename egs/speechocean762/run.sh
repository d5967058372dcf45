#!/usr/bin/env bash
# speechocean762: English sentences read by 250 native speakers of Mandarin, half of them children (OpenSLR 101).
#
# Training starts from the model of egs/numbers: run that first, or choose conf/scratch.yaml.
#
#   ./run.sh                                         # downloads the corpus (0.5 GB)
#   ./run.sh --corpus-dir /path/to/speechocean762    # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with train/, test/, WAVE/ and resource/ (default: download/speechocean762)
set -euo pipefail

corpus_dir=download/speechocean762
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --url https://www.openslr.org/resources/101/speechocean762.tar.gz --to "$corpus_dir"

test_splits=(test_adult test_child)
. "$root/utils/stages.sh"
