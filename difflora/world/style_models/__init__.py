"""Models of the world that draw and tell styles apart: an SD 1.5-architecture base and an independent judge (4.6)."""
