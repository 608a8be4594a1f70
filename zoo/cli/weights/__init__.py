"""Files of weights: fetched, and in the cache."""
