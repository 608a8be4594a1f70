from timm import *  # noqa: F403  # all else is timm's own
from timm import data as data
from timm import layers as layers
from timm import loss as loss
from timm import models as models
from timm import optim as optim
from timm import scheduler as scheduler
from timm import utils as utils
from timm.models import register_model as register_model

from zoo_timm.namespace import create_model as create_model
