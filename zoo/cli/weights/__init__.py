"""Files of weights: fetched, converted, published, looked after in the cache."""
