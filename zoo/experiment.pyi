from zoo_experiment.experiments import *  # noqa: F403  # what editors complete
