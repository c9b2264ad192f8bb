"""When, where and how often the chain runs: Prefect flows over DVC's stages; no stage is done again here."""
