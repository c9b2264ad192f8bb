"""LoRAs of many people: DreamBooth, many at once on one frozen base, kept in checked shards (paper, 3.5)."""
