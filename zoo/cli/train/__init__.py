"""Training, recipes, and training again from a record."""
