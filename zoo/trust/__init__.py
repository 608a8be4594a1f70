"""Which bytes a project accepts, and on whose signature."""
