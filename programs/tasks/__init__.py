"""The tasks of LaMP and of git's commits, one file each, and users' own task files."""

from programs.tasks import commits, lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7

TASKS = {module.TASK.name: module.TASK for module in (lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7, commits)}
