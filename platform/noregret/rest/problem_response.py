"""A problem document as Django answers it; the data plane answers its own (serving.web.errors)."""

from django.http import HttpResponse

from serving.problems import CONTENT_TYPE, Problem


def problem_response(problem: Problem) -> HttpResponse:
    answer = HttpResponse(problem.body(), status=problem.status, content_type=CONTENT_TYPE)
    for name, value in problem.headers.items():
        answer[name] = value
    return answer
