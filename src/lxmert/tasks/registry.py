"""The tasks that a recipe may name."""

import torch

from lxmert.tasks.answering import AnsweringTask
from lxmert.tasks.custom_data import CustomDataTask
from lxmert.tasks.detection import DetectionTask
from lxmert.tasks.pairs import PairsTask
from lxmert.tasks.pretraining import PretrainingTask
from lxmert.tasks.retrieval import RetrievalTask
from lxmert.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "answering": AnsweringTask,
    "detection": DetectionTask,
    "custom": CustomDataTask,
    "pairs": PairsTask,
    "pretraining": PretrainingTask,
    "retrieval": RetrievalTask,
}


def build_task(name: str, settings: object, *, seed: int) -> Task:
    """Make a task from its settings; the same seed gives the same first weights.

    Custom data need preparation: `workflows.training` makes their task.

    Args:
        name: key of `TASKS`.
        settings: its `settings_type`.
        seed: of its first weights and whatever else it draws.
    """
    torch.manual_seed(seed)
    return TASKS[name](settings, seed=seed)  # type: ignore[call-arg]
