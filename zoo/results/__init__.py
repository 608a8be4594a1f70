"""Tables of results: one row for each score, with all that it takes to measure it again."""
