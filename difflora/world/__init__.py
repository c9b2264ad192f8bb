"""The embedded default: a small rendered world and the models trained on it, in the real models' formats."""

STEPS, GUIDANCE = 25, 3.0
"""Denoising steps and guidance scale at which the base model is measured and shown."""
