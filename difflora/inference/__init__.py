"""Pictures of people: the frozen base model drawing under their LoRAs."""
