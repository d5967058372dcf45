#!/usr/bin/env bash
# numbers_multilingual: spoken numbers in two languages, synthesised here by eSpeak NG: one model that also tells the language.
#
#   ./run.sh                                    # all stages
#   ./run.sh --config conf/shared.yaml          # one vocabulary for both languages instead of one for each
#
# Options of this recipe:
#   --languages "A B"   languages of conf/base.yaml that eSpeak NG and num2words both know (default: "en de")
#   --utterances N      training utterances of each language to synthesise (default: 4000)
#   --dev-utterances N, --test-utterances N, --speakers N
#                       other sizes of each corpus (default: 100, 200, 200)
#   --corpus-dir DIR    where the corpora are written, a folder for each (default: corpora)
set -euo pipefail

languages="en de"
utterances=4000
dev_utterances=100
test_utterances=200
speakers=200
corpus_dir=corpora
. "$(dirname "$0")/../../utils/setup.sh"

for language in $languages; do
stage 0 "synthesise the corpus: $language" \
  python "$local/synthesise_corpus.py" --out "$corpus_dir/$language" --lang "$language" --utterances "$utterances" \
  --dev-utterances "$dev_utterances" --test-utterances "$test_utterances" --speakers "$speakers"
done

. "$root/utils/stages.sh"
