#!/usr/bin/env bash
# openslr_indic: sentences read by thirty to sixty speakers of Gujarati, Telugu, Tamil or Kannada (OpenSLR 78, 66, 65, 79; He et al.,
# "Open-source multi-speaker speech corpora for building Gujarati, Kannada, Malayalam, Marathi, Tamil and Telugu speech synthesis
# systems", LREC 2020).
#
#   ./run.sh --language te                                # downloads one language, about 2 GB
#   ./run.sh --language te --corpus-dir /path/to/telugu   # uses a copy that is already there
#
# Each language wants a --data-dir and an --exp-dir of its own.
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with female/ and male/, the unpacked archives (default: download/openslr_LANGUAGE)
#   --language NAME     gu, te, ta or kn (default: gu)
set -euo pipefail

corpus_dir=
language=gu
. "$(dirname "$0")/../../utils/setup.sh"

case $language in
  gu) resource=78 ;;
  te) resource=66 ;;
  ta) resource=65 ;;
  kn) resource=79 ;;
  *) echo "error: --language $language: it is gu, te, ta or kn" >&2; exit 2 ;;
esac
: "${corpus_dir:=download/openslr_$language}"
for gender in female male; do
  stage 0 "the corpus: $gender speakers" \
    python "$local/download_corpus.py" --to "$corpus_dir/$gender" \
    --url "https://www.openslr.org/resources/$resource/${language}_in_$gender.zip"
done

. "$root/utils/stages.sh"
