"""Drawing a person and a scene with signed-distance shapes, a batch at once."""
