"""The tasks of LaMP, one file each, and users' own task files."""

from programs.tasks import lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7

TASKS = {module.TASK.name: module.TASK for module in (lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7)}
