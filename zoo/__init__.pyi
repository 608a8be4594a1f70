from zoo import data as data
from zoo import errors as errors
from zoo.errors import ZooError as ZooError
from zoo.evaluation.by_name import evaluate as evaluate
from zoo.evaluation.prediction import predict as predict
from zoo.evaluation.speed import benchmark as benchmark
from zoo.loading import Network as Network
from zoo.loading.create import create as create
from zoo.loading.create import fetch as fetch
from zoo.loading.create import info as info
from zoo.loading.create import preprocess as preprocess
from zoo.loading.create import transforms as transforms
from zoo.registry import model as model
from zoo.registry import register as register
from zoo.registry.listing import list_models as list_models
from zoo.spec import Model as Model
from zoo.spec import Paper as Paper
from zoo.spec import Plugin as Plugin
from zoo.spec import Preprocess as Preprocess
from zoo.training.by_name import train as train
from zoo.training.reproduce import reproduce as reproduce

__version__: str

from zoo import attack as attack  # of a plugin
from zoo import classifiers as classifiers  # of a plugin
from zoo import evaluation as evaluation
from zoo import experiment as experiment  # of a plugin
from zoo import exporting as exporting  # of a plugin
from zoo import hub as hub
from zoo import look as look  # of a plugin
from zoo import manifest as manifest
from zoo import modules as modules
from zoo import publishing as publishing  # of a plugin
from zoo import registry as registry
from zoo import spec as spec
from zoo import testing as testing
from zoo import timm as timm  # of a plugin
from zoo import training as training
from zoo.errors import *  # noqa: F403  # zoo.HubError is zoo.errors.HubError
from zoo_export.by_name import export as export  # of a plugin
from zoo_transfer.extraction import features as features  # of a plugin
