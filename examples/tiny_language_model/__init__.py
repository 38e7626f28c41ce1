"""A tiny GPT-2 on reviews: can an average of checkpoints at a constant learning rate stand for its decay?"""

from examples import need

need("transformers", "tokenizers")
