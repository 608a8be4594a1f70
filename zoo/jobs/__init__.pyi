from zoo.jobs.engines import NAMES as NAMES
from zoo.jobs.job import Job as Job
from zoo.jobs.job import Outcome as Outcome
from zoo.jobs.local import run as run
from zoo.jobs.store import Store as Store
