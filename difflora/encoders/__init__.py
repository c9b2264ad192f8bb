"""Encoders that look at pictures: what DiffLoRA is conditioned on and what it is measured with."""
