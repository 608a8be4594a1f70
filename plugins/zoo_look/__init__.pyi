from zoo.spec import Plugin
from zoo_look.alignment import representations as representations
from zoo_look.attribution import attribute as attribute
from zoo_look.confused_classes import confusion as confusion
from zoo_look.deconvnet import deconv as deconv
from zoo_look.deconvnet import project as project
from zoo_look.diagnosis import diagnose as diagnose
from zoo_look.first_layer import filters as filters
from zoo_look.invariance_curves import invariance as invariance
from zoo_look.kept_epochs import trajectory as trajectory
from zoo_look.maps import before_and_after as before_and_after
from zoo_look.maps import features as features
from zoo_look.maps import whitening as whitening
from zoo_look.maximization import maximize as maximize
from zoo_look.network import layers as layers
from zoo_look.receptive import receptive_field as receptive_field
from zoo_look.result import Look as Look
from zoo_look.result import ask as ask
from zoo_look.result import new_figure as new_figure
from zoo_look.top_patches import patches as patches

plugin: Plugin

from zoo_look.network import images_of as images_of
from zoo_look.network import opened as opened
from zoo_look.portraits import Portraits as Portraits
from zoo_look.portraits import channels_of as channels_of
from zoo_look.portraits import portray as portray
