"""The tasks of LaMP, LongLaMP and LaMP-QA, and of git's commits, and users' own task files."""

from programs.tasks import commits, lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7
from programs.tasks.lamp_qa.categories import CATEGORIES
from programs.tasks.longlamp import abstract, email, review, topic

_LAMP = (lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7)
_LONGLAMP = (abstract, topic, review, email)
_ALL = (*(module.TASK for module in (*_LAMP, *_LONGLAMP)), *CATEGORIES, commits.TASK)
TASKS = {task.name: task for task in _ALL}
