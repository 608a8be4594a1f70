"""The exercises of the course: a question for each chapter, whose answer is computed when it is checked."""

from zoo.spec import Plugin

plugin = Plugin("course", api=2, commands={"course": "zoo_course.cli:course"})
