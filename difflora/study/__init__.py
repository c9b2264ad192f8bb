"""The user study (paper, Table 2): blinded pages, votes, scores."""
