"""The world's PhotoMaker: its start, what it learns through the frozen base, and its bars."""
