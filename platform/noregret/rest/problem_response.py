"""A problem document as Django answers it; the data plane answers its own (serving.web.errors)."""

from django.core.exceptions import BadRequest
from django.http import HttpResponse

from serving.problems import CONTENT_TYPE, Problem


class Refused(BadRequest):
    """Raised outside REST framework, where pages are refused too: its problem is told on a page to
    whoever asked for one."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def problem_response(problem: Problem) -> HttpResponse:
    answer = HttpResponse(problem.body(), status=problem.status, content_type=CONTENT_TYPE)
    for name, value in problem.headers.items():
        answer[name] = value
    return answer
