"""DiffLoRA: one photograph of a person in, LoRA weights for a text-to-image model out."""
