"""New recipes: a look at a corpus, a config that follows from it, and the reasons."""
from asr.recipe.layout import Hints
from asr.recipe.proposal import Proposal, look_at, model_to_start_from
from asr.recipe.write import check_new, write_recipe

__all__ = ["Hints", "Proposal", "check_new", "look_at", "model_to_start_from", "write_recipe"]
