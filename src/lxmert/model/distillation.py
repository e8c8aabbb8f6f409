"""Distillation: a student learns the distribution of a teacher."""

from torch import Tensor


def distillation(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return T^2 * KL(teacher, student) at temperature T, summed over the batch, `[]`.

    Args:
        student: logits `[batch, classes]`.
        teacher: logits `[batch, classes]`, without gradient.
        temperature: above 0.

    Source: Hinton, Vinyals & Dean 2015, section 2.
    """
    log_student = (student.float() / temperature).log_softmax(dim=-1)
    log_teacher = (teacher.float() / temperature).log_softmax(dim=-1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum()
