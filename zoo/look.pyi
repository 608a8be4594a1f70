from zoo_look import *
