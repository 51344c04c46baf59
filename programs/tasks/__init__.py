"""The tasks, one file each, and task files of a user's own."""

from programs.tasks import lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7

TASKS = {one.TASK.name: one.TASK for one in (lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7)}
