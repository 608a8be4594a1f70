from zoo_convert import *  # noqa: F403  # what editors complete
