from zoo_publish import *  # noqa: F403  # what editors complete
