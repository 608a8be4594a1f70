from zoo.testing.checks import Check as Check
from zoo.testing.checks import checks_of as checks_of
from zoo.testing.pytest_plugin import conformance as conformance
from zoo.testing.subject import GIANT_MACS as GIANT_MACS
from zoo.testing.subject import GIANT_PARAMS as GIANT_PARAMS
from zoo.testing.subject import CheckError as CheckError
