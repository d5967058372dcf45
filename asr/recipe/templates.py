"""Files of a new recipe that are the same for every corpus, or nearly so."""

RUN_SH = '''\
#!/usr/bin/env bash
@SUMMARY@
#
#   @USAGE@
#   @COPY@    # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    where the corpus lies (default: @DEFAULT@)
set -euo pipefail

corpus_dir=@CORPUS_DIR@
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \\
  python "$local/download_corpus.py" @FETCH@--to "$corpus_dir"

@TESTS@. "$root/utils/stages.sh"
'''
"""``@NAME@`` and the like stand for what write.py fills in."""

TINY = """\
# A model of some thousand parameters, for the tests of the recipe and for trying out a change in minutes: it recognises nothing.
extends: base.yaml
name: tiny
features: {num_mel_bins: 20}
model:
  encoder: {dim: 16, layers: 1, heads: 2, feedforward: 16, kernel: 3, subsampling: {channels: 2}}
  predictor: {dim: 8}
  joiner: {dim: 8}
losses: {rnnt: {warmup_steps: 4}}
train:
  init_from: null
  epochs: 1
  schedule: {warmup_steps: 4}
  batches: {max_duration: 200}
  average_period: 1
decode:
  searches:
    beam_ngram: {tune: {scorers.ngram.scale: [0.1, 0.3]}}
    beam_lexicon: {tune: {scorers.words.scale: [0.1, 0.3]}}
    ctc_prefix_beam: {tune: {scorers.ngram.scale: [0.1, 0.3]}}
    fast_beam_lg: {tune: {graph_scale: [0.1, 0.3]}}
    ctc_hlg: {tune: {acoustic_scale: [1.0, 2.0]}}
"""
