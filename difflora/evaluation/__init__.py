"""How alike, how obedient: methods compared on people that no model has seen (paper, 4)."""
