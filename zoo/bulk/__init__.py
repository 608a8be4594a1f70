"""One command for many weights: as a list of jobs, which any engine runs, and a table of their results."""
