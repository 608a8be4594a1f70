"""Files of weights: fetched, cached, converted, published."""
