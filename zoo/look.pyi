from zoo_look import *  # noqa: F403  # what editors complete
