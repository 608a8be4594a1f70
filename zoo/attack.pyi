from zoo_attack import *  # noqa: F403  # what editors complete
