from zoo_transfer.classifiers import *  # noqa: F403  # what editors complete
