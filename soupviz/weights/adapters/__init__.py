"""Adapters: LoRA folders of `peft`, read as ingredients over their base whose tensors are made when they are asked for.

What a folder holds is in `config` and `keys`, the weights over a base in `adapted`, which base is meant in `bases`.
"""
