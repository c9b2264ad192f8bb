"""People for a corpus: pictures of each, filtered by likeness, cropped and mirrored (paper, 3.5 and Fig. 5)."""
