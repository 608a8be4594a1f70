from zoo_export import *  # noqa: F403  # what editors complete
