"""The embedded default: a small rendered world and the models trained on it, in the real models' formats."""
