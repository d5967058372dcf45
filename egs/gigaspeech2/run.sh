#!/usr/bin/env bash
# gigaspeech2: six to ten thousand hours each of Thai, Indonesian and Vietnamese from YouTube, transcribed by machines, with development and
# test sets by people (GigaSpeech 2, Yang et al., ACL 2025, arXiv:2406.11546).
#
# The corpus has to be fetched by hand: its publisher asks to accept terms, of research and education only, on
# huggingface.co/datasets/speechcolab/gigaspeech2. After that, with a token of the account that did,
#
#   hf download speechcolab/gigaspeech2 --repo-type dataset --include 'data/th/*' --local-dir download/gigaspeech2
#
# gets one language, as archives that stage 0 unpacks where they lie. Some of data/th/train/*.tar.gz do as well: segments without audio
# are left out. For one GPU, take what makes a thousand hours.
#
#   ./run.sh --language th                                        # on the transcripts that its publishers refined: one GPU
#   ./run.sh --language th --config conf/full.yaml --processes 8  # eight, from shards: see the file
#
# Refinement in rounds of one's own, as they did it (docs/large-data.md): a first teacher from what Whisper wrote, which then transcribes
# all of the raw audio again; what it is sure of, and what did not change too much, trains a student, which may be the next teacher.
#
#   ./run.sh --language th --config conf/raw.yaml --data-dir data_raw
#   ./run.sh --config conf/student.yaml --teacher-dir exp/raw --data-dir data_1 --exp-dir exp/student_1
#   ./run.sh --config conf/student.yaml --teacher-dir exp/student_1 --data-dir data_2 --exp-dir exp/student_2
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with data/LANGUAGE/ (default: download/gigaspeech2)
#   --language NAME     th, id or vi (default: th)
#   --teacher-dir DIR   a trained experiment: it transcribes the raw audio, and the result is what is trained on
#   --raw-data-dir DIR  where the manifests of the raw audio are (default: data_raw)
#   --rules OPTIONS     of local/pseudo_label.py: what of the teacher's transcripts is taken (default: "--max-change 0.1 --max-rate 60")
set -euo pipefail

corpus_dir=download/gigaspeech2
language=th
teacher_dir=
raw_data_dir=data_raw
rules='--max-change 0.1 --max-rate 60'
. "$(dirname "$0")/../../utils/setup.sh"

# Each archive becomes the folder of its name, where it lies; those that are one already are left alone.
unpack() {
  python "$local/download_corpus.py" --to "$corpus_dir"
  local archive folder
  for archive in "$corpus_dir"/*.tar.gz "$corpus_dir"/train/*.tar.gz; do
    folder=${archive%.tar.gz}
    if [ ! -e "$archive" ] || [ -e "$folder" ]; then continue; fi
    rm -rf "$folder.part"
    mkdir "$folder.part"
    tar -xzf "$archive" -C "$folder.part"
    mv "$folder.part/${folder##*/}" "$folder"
    rmdir "$folder.part"
  done
}

# The teacher's transcripts of the raw training set, sifted, and the development and test sets as they are: a corpus of manifests.
transcribe() {
  mkdir -p "$corpus_dir"
  cp -p "$raw_data_dir"/manifests/{dev,test}.jsonl.gz "$corpus_dir"
  local teaching=(--exp-dir "$teacher_dir" --data-dir "$raw_data_dir" --searches beam ctc_greedy)
  in_jobs transcribe python -m asr decode "${teaching[@]}" --splits train --untuned
  # shellcheck disable=SC2086  # several options
  python "$local/pseudo_label.py" "${teaching[@]}" --split train --output "$corpus_dir/train.jsonl.gz" $rules
}

if [ -n "$teacher_dir" ]; then
  corpus_dir=$data_dir/transcribed
  stage 0 "transcripts by $teacher_dir" transcribe
else
  corpus_dir=$corpus_dir/data/$language
  stage 0 "the corpus, unpacked" unpack
fi

. "$root/utils/stages.sh"
