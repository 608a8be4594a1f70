"""One module for each format or data set on a disk or a hub."""
