"""PhotoMaker v1 (arXiv:2312.04461) on diffusers' SDXL: pictures of a person from reference pictures, without training.

A CLIP vision tower turns each reference picture into a vector of the prompt embeddings' width; a small network fuses it
with the class word's embedding, and the fused vectors, one a picture, are stacked in the class word's place. A LoRA of
the UNet's attention comes in the same file.
"""
