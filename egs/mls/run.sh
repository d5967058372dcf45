#!/usr/bin/env bash
# mls: audiobooks in eight languages (Multilingual LibriSpeech; Pratap et al. 2020, arXiv 2012.03411; OpenSLR 94).
#
#   ./run.sh                                              # Polish, 104 hours: downloads 2 GB
#   ./run.sh --language german --processes 8 --config conf/eight_gpus.yaml       # 1967 hours
#   ./run.sh --language german --corpus-dir /path/to/mls_german                  # uses a copy that is already there, Opus or FLAC
#
# Text for the language models is published, too (mls_lm_LANGUAGE.tar.gz): --lm-text mls_lm_german/data.txt
# Each language wants a --data-dir and an --exp-dir of its own.
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with train/, dev/ and test/ (default: download/mls_LANGUAGE_opus)
#   --language NAME     english, german, dutch, french, spanish, italian, portuguese or polish (default: polish)
#   --audio FORMAT      of the download: opus, or flac, four times as large (default: opus)
set -euo pipefail

corpus_dir=
language=polish
audio=opus
. "$(dirname "$0")/../../utils/setup.sh"

archive=mls_$language
if [ "$audio" = opus ]; then archive+=_opus; fi
: "${corpus_dir:=download/$archive}"
stage 0 "the corpus" \
  python "$local/download_corpus.py" --url "https://dl.fbaipublicfiles.com/mls/$archive.tar.gz" --to "$corpus_dir"

. "$root/utils/stages.sh"
