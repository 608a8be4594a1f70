from zoo.jobs.local import Job as Job
from zoo.jobs.local import Outcome as Outcome
from zoo.jobs.local import run as run
