"""The paper's figures: each file holds one, its numbers apart from its drawing."""
