from zoo_publish import *
